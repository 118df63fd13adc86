"""Where an operator of the CPU allocates otherwise than its fake counterpart says."""

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import OpOverload

from vramscope.recorders.artefacts import ARTEFACTS
from vramscope.recorders.losses import loss_rules
from vramscope.recorders.onednn import lstm_layer, lstm_layer_backward
from vramscope.recorders.python_kernels import python_kernels
from vramscope.recorders.substitutes import SUBSTITUTES
from vramscope.recorders.virtual_mode import Rule, VirtualMode

aten = torch.ops.aten


def in_order(*order: int) -> Rule:
    """A rule for a kernel that makes its results in another order than it returns them."""

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        results = mode.describe(func, *args, **kwargs)
        for place in order:
            mode.memory.see(results[place])
        return results

    return rule


CPU_RULES: Mapping[OpOverload, Rule] = {
    **ARTEFACTS,
    **SUBSTITUTES,
    **loss_rules(),
    **python_kernels(),
    # batch_norm_backward_cpu_template, aten/src/ATen/native/Normalization.cpp: weight, bias, input
    aten.native_batch_norm_backward.default: in_order(1, 2, 0),
    # mkldnn_convolution_backward, aten/src/ATen/native/mkldnn/Conv.cpp: input, bias, weight
    aten.convolution_backward.default: in_order(0, 2, 1),
    aten.mkldnn_rnn_layer.default: lstm_layer,
    aten.mkldnn_rnn_layer_backward.default: lstm_layer_backward,
}
