"""The version of torch whose rules are those of the operators here."""

import torch

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
"""Major and minor number."""
