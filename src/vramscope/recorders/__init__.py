"""Recorders turn a run into a Recording: profiler events, labels, host and device memory.

They observe and never interpret: no category is decided here. This folder holds what every recorder shares, and the
profiler's; `virtual` runs on fake tensors, `scripts` watches programs, `cuda` adds what only GPUs tell.
"""
