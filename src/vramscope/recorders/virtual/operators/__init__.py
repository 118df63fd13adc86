"""Operators that allocate otherwise than their fakes say, one file per kind: their own memory, in the order of a run.

Rules of the CPU, and those that a GPU shares; what only CUDA does is `predict`'s.
"""
