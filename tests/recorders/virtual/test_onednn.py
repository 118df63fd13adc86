"""What oneDNN keeps for an LSTM's backward, against its own answer on this machine."""

import pytest
import torch
from torch import nn

from vramscope.recorders.virtual.operators.onednn import lstm_workspace_bytes


def kept_by_onednn(length: int, batch: int, inputs: int, width: int, dtype: torch.dtype) -> int:
    layer = nn.LSTM(inputs, width).to(dtype)
    output, _ = layer(torch.randn(length, batch, inputs).to(dtype))
    node = output.grad_fn
    while not hasattr(node, "_saved_result3"):
        node = node.next_functions[0][0]
    return node._saved_result3.numel()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # everything fits one page: seven pages
        ((1, 1, 16, 16), 28_672),
        # 128 steps: gates 128 * 2608 * 4, outputs 128 * 656 * 4, states and both gradients 258 * 656 * 4, cells and
        # their gradient 258 * 650 * 4; in pages of 4096: 326 + 82 + 3 * 166 + 2 * 164 = 1234
        ((128, 1, 650, 650), 5_054_464),
        # 35 steps; 4 * 256 gates and 256 outputs are multiples of 256 and take 16 more: 35 * 1040 * 4, 35 * 272 * 4;
        # 80 states of 272, 80 cells of 256: 36 + 10 + 3 * 22 + 2 * 20 = 152
        ((7, 5, 33, 256), 622_592),
    ],
)
def test_lstm_workspace(sizes, expected):
    assert lstm_workspace_bytes(*sizes, element_bytes=4) == expected


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [(3, 2, 40, 24), (10, 4, 512, 1000), (9, 7, 100, 60)], ids=str)
def test_onednn_answers_the_same(sizes, dtype):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16 in oneDNN")
    assert lstm_workspace_bytes(*sizes, dtype.itemsize) == kept_by_onednn(*sizes, dtype)
