"""Recorders turn a run into a Recording: profiler events, labels, host and device memory.

They observe and never interpret: no category is decided here.
"""
