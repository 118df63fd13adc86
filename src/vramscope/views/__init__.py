"""Views render what the ledger answers: one file per format.

A view never computes a figure and never imports torch.
"""
