"""What the PNGs show: each picture drawn into a matplotlib figure that the caller made and writes.

Nothing here computes a figure or touches pyplot.
"""
