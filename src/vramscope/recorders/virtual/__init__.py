"""The virtual recorder: a Recording of a run that takes no memory, on fake tensors.

What holds for every device is here; what the CPU's operators do otherwise than their fakes, in `operators`.
"""
