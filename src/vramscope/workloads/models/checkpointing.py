"""Activation checkpointing of one block, for every built-in that has blocks."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, hidden: Tensor, checkpointed: bool) -> Tensor:
    """``block(hidden)``, its activations recomputed in backward when asked and when there will be a backward.

    Source: T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; the non-reentrant form of
    ``torch.utils.checkpoint``.
    """
    if checkpointed and torch.is_grad_enabled():
        output: Tensor = checkpoint(block, hidden, use_reentrant=False)
        return output
    result: Tensor = block(hidden)
    return result
