"""What to profile: targets, built-in models, inputs, optimizers and the canonical step.

A workload runs; it does not know that it is watched.
"""
