"""What a prediction leaves out, in words: each is counted as nothing, so that the result is a lower bound."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.predict.convolutions import convolution
from vramscope.recorders.virtual.mode import Rule, VirtualMode
from vramscope.recorders.virtual.operators.python_kernels import in_python, python_kernels
from vramscope.units import format_size

aten = torch.ops.aten
_RECURRENT = "what cuDNN keeps of recurrent layers for backward beside their outputs counts as 0: a lower bound"
_ATTENTION = "workspaces of cuDNN attention count as 0: a lower bound"
_CHUNKS = "linear_cross_entropy of 16-bit numbers: its chunks are cut and added up as on the CPU, not as on a GPU"
_HALVES = (torch.bfloat16, torch.float16)
_SAID_OF = {
    aten.mkldnn_rnn_layer.default: _RECURRENT,
    aten._cudnn_rnn.default: _RECURRENT,
    aten._scaled_dot_product_cudnn_attention.default: _ATTENTION,
    aten._scaled_dot_product_cudnn_attention_backward.default: _ATTENTION,
}


class Limits:
    """Watches for operators whose workspace only cuDNN knows, or that nobody has described yet.

    cuDNN's algorithms and their workspaces are not public. What is known is one of them: the explicit matrix product
    writes out every window of a whole batch (CUDNN_CONVOLUTION_FWD_ALGO_GEMM in NVIDIA's documentation, "im2col" in
    torch's own aten/src/ATen/native/im2col.h), which says how large a workspace may reasonably be.
    """

    def __init__(self) -> None:
        self._largest_matrix_bytes = 0

    def rules(self) -> Mapping[OpOverload, Rule]:
        """Rules that note what they see and change nothing."""
        return {
            aten.convolution.default: self._see_convolution,
            **dict.fromkeys(_SAID_OF, _say),
            **dict.fromkeys(python_kernels(), _say_of_chunks),
        }

    def notes(self) -> tuple[str, ...]:
        """What was left out of convolutions, which only the largest of them tells."""
        if not self._largest_matrix_bytes:
            return ()
        return (
            "convolution workspaces of cuDNN count as 0, a lower bound: the explicit matrix of the largest "
            f"convolution here would take {format_size(self._largest_matrix_bytes)}, and cuDNN takes anything from "
            "nothing to such sizes",
        )

    def _see_convolution(
        self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        result = convolution(mode, func, args, kwargs)
        size = window_matrix_bytes(tuple(args[1].shape), tuple(result.shape), result.element_size())
        self._largest_matrix_bytes = max(self._largest_matrix_bytes, size)
        return result


def _say(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    mode.note(_SAID_OF[func])
    return mode.run(func, *args, **kwargs)


def _say_of_chunks(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if any(isinstance(part, Tensor) and part.dtype in _HALVES for part in args):
        mode.note(_CHUNKS)
    return in_python(mode, func, args, kwargs)


def window_matrix_bytes(weight: tuple[int, ...], result: tuple[int, ...], element_bytes: int) -> int:
    """Bytes of a matrix of every window that a convolution looks at.

    Args:
        weight: [output channels, channels of a group, kernel…].
        result: [batch, output channels, places…].
        element_bytes: of one number.

    Example:
        A 3x3 kernel over 64 channels at 56 x 56 places of 8 images: 64 * 9 * 8 * 56 * 56 numbers.
    """
    return element_bytes * result[0] * math.prod((*weight[1:], *result[2:]))
