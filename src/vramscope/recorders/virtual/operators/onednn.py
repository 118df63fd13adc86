"""What oneDNN keeps of an LSTM's forward pass for backward, and the results of its backward.

Sources: ``mkldnn_rnn_layer`` and ``mkldnn_rnn_layer_backward`` in aten/src/ATen/native/mkldnn/RNN.cpp, which run one
layer in one direction; ``init_conf``, ``set_workspace_sizes`` (src/cpu/rnn/rnn_utils.hpp) and ``set_offsets``
(rnn_utils.cpp) in oneDNN.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.mode import VirtualMode

aten = torch.ops.aten
_GATES = 4
_PAGE, _CACHE_LINE = 4096, 64
_FLOAT_BYTES = 4
_BACKWARD_ORDER = (0, 5, 6, 1, 2, 3)


def lstm_workspace_bytes(length: int, batch: int, inputs: int, width: int, element_bytes: int) -> int:
    """Bytes that a layer keeps of a whole sequence, each part beginning on a page.

    The parts: gates and outputs of every step; states and cells of every step and the one before it, below the layer
    and above; the gradients of both states and of the cells, in float32.

    Example:
        length 1, batch 1, 16 inputs, width 16, float32: every part fits one page, and there are seven: 28,672.
    """
    steps, states = length * batch, 2 * (length + 1) * batch
    widest = max(inputs, width)
    state = states * _row(widest, element_bytes) * element_bytes
    gradient = states * _row(widest, _FLOAT_BYTES) * _FLOAT_BYTES
    parts = (
        steps * _row(_GATES * width, element_bytes) * element_bytes,
        steps * _row(width, element_bytes) * element_bytes,
        state,
        states * width * element_bytes,
        gradient,
        gradient,
        states * width * _FLOAT_BYTES,
    )
    return sum(_up(part, _PAGE) for part in parts)


def _row(elements: int, element_bytes: int) -> int:
    """Elements from one row of a matrix to the next: whole cache lines, no multiple of 256 (``get_good_ld``)."""
    line = _CACHE_LINE // element_bytes
    row = _up(elements, line)
    return row + line if row % 256 == 0 else row


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def lstm_layer(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A layer's forward: output, state, cell, and where gradients are wanted the workspace for them."""
    output, state, cell, workspace = mode.describe(func, *args, **kwargs)
    layer_input = args[0]
    if torch.is_grad_enabled():
        length, batch, inputs = layer_input.shape
        size = lstm_workspace_bytes(length, batch, inputs, state.shape[-1], layer_input.element_size())
        workspace = mode.describe(aten.new_empty.default, workspace, [size])
    mode.memory.see((output, state, cell, workspace))
    return output, state, cell, workspace


def lstm_layer_backward(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A layer's backward: the states' gradients after the input's, and the second bias's gradient a copy at the end."""
    results = list(mode.describe(func, *args, **kwargs))
    for place in _BACKWARD_ORDER:
        mode.memory.see(results[place])
    if isinstance(results[3], Tensor):
        results[4] = mode.run(aten.clone.default, results[3])
    return tuple(results)
