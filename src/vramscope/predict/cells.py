"""Cells of recurrent networks on CUDA: one fused kernel for what follows the two products."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten
_KEPT_BY_GRU = 5
"""Numbers that a GRU's cell keeps for backward, for each of the hidden state's (``GRU_WORKSPACE_MULTIPLIER``)."""


def cell_rules() -> Mapping[OpOverload, Rule]:
    """Rules for fused cells, by operator. Source: aten/src/ATen/native/cuda/RNN.cu."""
    return {
        aten._thnn_fused_lstm_cell.default: lstm_cell,
        aten._thnn_fused_gru_cell.default: gru_cell,
        aten._thnn_fused_gru_cell_backward.default: gru_cell_backward,
    }


def lstm_cell(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What backward needs, as large as either product, then the new hidden state and cell."""
    _, of_hidden, cell = args[:3]
    workspace = mode.run(aten.empty_like.default, of_hidden)
    return mode.run(aten.empty_like.default, cell), mode.run(aten.empty_like.default, cell), workspace


def gru_cell(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What backward needs, then the new hidden state."""
    hidden = args[2]
    batch, width = hidden.shape
    workspace = mode.run(aten.new_empty.default, hidden, [batch, width * _KEPT_BY_GRU])
    return mode.run(aten.empty_like.default, hidden), workspace


def gru_cell_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Gradients of both products, of the hidden state, and of the biases, which are sums over the batch."""
    gradient, _, biased = args
    batch, width = gradient.shape
    of_products: list[Tensor] = [mode.run(aten.new_empty.default, gradient, [batch, 3 * width]) for _ in range(2)]
    of_hidden = mode.run(aten.empty_like.default, gradient)
    of_biases = [mode.run_rule(aten.sum.dim_IntList, part, [0]) if biased else None for part in of_products]
    return *of_products, of_hidden, *of_biases
