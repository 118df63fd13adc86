"""What a GPU that is not there would use: operator rules, GPUs, estimate and fit.

Nothing here measures anything; what is printed for people is the views' business.
"""
