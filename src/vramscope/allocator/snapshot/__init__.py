"""CUDA memory snapshots: reading the pickles of ``torch.cuda.memory._dump_snapshot`` safely, and importing them.

Nothing in a file is trusted: no global is resolved, memory is bounded, and contradictions are marked.
"""
