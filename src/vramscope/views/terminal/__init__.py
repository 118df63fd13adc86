"""The terminal view: tables that a person reads, at any width, with or without colour.

Nothing here computes a figure beyond sums of rows that are printed.
"""

from vramscope.views.terminal.report import print_comparison

__all__ = ["print_comparison"]
