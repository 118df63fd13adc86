"""What a recording of GPUs holds besides the profiler's events: segments, stacks, workspaces, the device's own figures.

Nothing here is needed on a machine without one.
"""
