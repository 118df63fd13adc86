"""Callbacks for the training loops of other libraries, one module for each; none is imported before it is asked for.

They start and stop what `vramscope run` uses, at the library's own moments; nothing is measured here.
"""
