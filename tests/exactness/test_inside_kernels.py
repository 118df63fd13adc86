"""Memory that kernels take for themselves: the ledger has it, a tally of operators' outputs does not.

The tally below is what tools built on a TorchDispatchMode see (PyTorch's MemTracker among them): every output of every
operator, for as long as its storage lives. What a kernel allocates inside itself never passes by there.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import FLOAT32, assert_agrees, describe_blocks, recording_of, tensors_within
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.labels import label_model, label_tensor
from vramscope.recording.recording import MarkKind

BATCH, CHANNELS, SIZE = 2, 4, 12


class Tally(TorchDispatchMode):
    """The most bytes that outputs of operators ever held together, storages once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in tensors_within([args, kwargs])}
        for tensor in tensors_within([result]):
            self._add(tensor.untyped_storage(), given)
        return result

    def _add(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in given or key in self._known:
            return
        self._known.add(key)
        self.alive_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive_bytes -= size


class Calls(nn.Module):
    """Runs a function on its input, and on a module of its own."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], own: nn.Module | None = None) -> None:
        super().__init__()
        self.function = function
        self.own = own or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.own, x)


def convolve_by_columns(convolution: nn.Module, x: Tensor) -> Tensor:
    with torch.backends.mkldnn.flags(enabled=False):
        return convolution(x)


def attend(_: nn.Module, x: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


def convolution() -> nn.Module:
    return Calls(convolve_by_columns, nn.Conv2d(CHANNELS, CHANNELS, 3))


@dataclass(frozen=True)
class Case:
    """What to build, and whether a backward pass follows."""

    build: Callable[[], nn.Module]
    backward: bool = False

    def prepare(self) -> tuple[nn.Module, Tensor]:
        """The module and its input."""
        torch.manual_seed(0)
        return self.build(), torch.randn(BATCH, CHANNELS, SIZE, SIZE, requires_grad=self.backward)

    def run(self, module: nn.Module, x: Tensor) -> None:
        """One step, with everything dropped after it."""
        result = module(x)
        if self.backward:
            result.sum().backward()


CASES = {
    "conv2d by columns": Case(convolution),
    "conv2d by columns, backward": Case(convolution, backward=True),
    "lstm": Case(lambda: Calls(lambda own, x: own(x.flatten(0, 1))[0], nn.LSTM(SIZE, 8))),
    "unique": Case(lambda: Calls(lambda _, x: torch.unique(x.round()))),
    "unique with counts": Case(lambda: Calls(lambda _, x: torch.unique(x.round(), return_counts=True)[0])),
    "sort": Case(lambda: Calls(lambda _, x: torch.sort(x, dim=1)[0])),
    "attention with dropout": Case(lambda: Calls(attend), backward=True),
}
NOTHING_INSIDE = Case(lambda: Calls(lambda _, x: x.neg().relu().abs()))


def tallied(case: Case) -> int:
    """The tally's peak."""
    module, x = case.prepare()
    with Tally() as tally:
        case.run(module, x)
    return tally.peak_bytes


def recorded(case: Case) -> Ledger:
    """The ledger of a second run: in the first one kernels are chosen and loaded."""
    module, x = case.prepare()
    case.run(module, x)
    x.grad = None
    module.zero_grad()
    with recording_of(seeds=chain(label_model(module), label_tensor(MarkKind.INPUT, "x", x))) as running:
        running.recorder.watch(module)
        case.run(module, x)
    return running.ledger


def own_peak(ledger: Ledger) -> int:
    """The highest of the allocator's own totals, counted from the first one."""
    return int((ledger.recording.events.total - ledger.recording.devices[0].start_total).max())


def test_the_tally_is_fair():
    # Kernels that take nothing for themselves: each result lives until the next one is there, so two are alive at most.
    two = 2 * BATCH * CHANNELS * SIZE * SIZE * FLOAT32
    assert tallied(NOTHING_INSIDE) == two
    assert own_peak(recorded(NOTHING_INSIDE)) == two


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_the_allocators_and_more_than_operators_show(name):
    ledger = recorded(CASES[name])
    assert_agrees(ledger)
    peak = ledger.peak()
    assert peak.bytes - ledger.initial_bytes() == own_peak(ledger)
    assert sum(ledger.composition(peak.event).values()) == peak.bytes
    assert own_peak(ledger) > tallied(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_what_kernels_take_has_an_owner(name):
    ledger = recorded(CASES[name])
    unattributed = ledger.is_category(Category.UNATTRIBUTED)
    # a gradient of x is no parameter's: nobody marks it, but a node made it
    assert not unattributed.any(), describe_blocks(ledger, unattributed)
    assert ledger.is_category(Category.WORKSPACE).any()


def test_the_columns_of_a_convolution():
    # slow_conv2d unfolds each image into columns: CHANNELS * 3 * 3 rows for each of 10 * 10 places, for the whole batch
    # (aten/src/ATen/native/ConvolutionMM2d.cpp). They are born and freed inside aten::conv2d, beside its output.
    columns = BATCH * CHANNELS * 9 * 10 * 10 * FLOAT32
    output = BATCH * CHANNELS * 10 * 10 * FLOAT32
    ledger = recorded(CASES["conv2d by columns"])
    assert own_peak(ledger) == output + columns
    composition = ledger.composition(ledger.peak().event)
    assert (composition[Category.ACTIVATIONS], composition[Category.WORKSPACE]) == (output, columns)
    assert composition[Category.PARAMETERS] == (CHANNELS * CHANNELS * 9 + CHANNELS) * FLOAT32
    assert composition[Category.INPUTS] == BATCH * CHANNELS * SIZE * SIZE * FLOAT32
