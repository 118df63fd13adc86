"""Functions of torch that do not work as they should while tensors are fake, replaced for the time of a run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import _VF, Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.profiler import record_function
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import _disable_current_modes

from vramscope.recorders.stamps import StampKind, label, open_scope
from vramscope.recorders.virtual.known_numbers import numbers_kept
from vramscope.recorders.virtual.memory import VirtualMemory
from vramscope.recorders.virtual.operators.packing import padding

_LISTED = [*_foreach_utils._foreach_supported_types, FakeTensor]
"""Types that torch puts into operators over lists of tensors, as when it clips gradients."""
_ASKS_FOR_FAKES = "transformers.utils.import_utils"
_IS_FAKE = "is_fake_tensor"


@contextmanager
def patched_torch(memory: VirtualMemory) -> Iterator[None]:
    """Scopes opened by name stay open, resizing is seen, numbers that no data decide are known and can be written out,
    and fake parameters can be cast, copied and lazy."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(record_function, "__enter__", _enter))
        stack.enter_context(mock.patch.object(record_function, "__exit__", _exit))
        stack.enter_context(mock.patch.object(torch.utils, "swap_tensors", _swap))
        stack.enter_context(mock.patch.object(torch.UntypedStorage, "resize_", _resizing(memory)))
        stack.enter_context(mock.patch.object(FakeTensorMode, "__deepcopy__", _same, create=True))
        stack.enter_context(mock.patch.object(FakeTensor, "__format__", _format, create=True))
        for lazy in (UninitializedParameter, UninitializedBuffer):
            stack.enter_context(mock.patch.object(lazy, "__new__", _without_modes(lazy.__new__)))
            stack.enter_context(mock.patch.object(lazy, "materialize", _materialize))
        stack.enter_context(mock.patch.object(_VF, "_pad_packed_sequence", padding(_VF._pad_packed_sequence)))
        stack.enter_context(mock.patch.object(torch, "ctc_loss", _of_tensors(torch.ctc_loss)))
        stack.enter_context(mock.patch.object(_foreach_utils, "_foreach_supported_types", _LISTED))
        stack.enter_context(numbers_kept(memory))
        yield


def as_it_would_run(stack: ExitStack) -> None:
    """Have transformers, where it is loaded, go the way of a run: for fakes it goes the way of an export.

    It would keep masks that a run drops as soon as it has looked into them, and with them take other kernels.
    """
    module = sys.modules.get(_ASKS_FOR_FAKES)
    if module is not None and vars(module).get(_IS_FAKE) not in (None, _is_no_fake):
        stack.enter_context(mock.patch.object(module, _IS_FAKE, _is_no_fake))


def _is_no_fake(tensor: Any) -> bool:
    return False


def _enter(self: Any) -> Any:
    """Open the scope from Python: the operator that does it passes the dispatch modes, and its scope ends with them."""
    self.record = open_scope(label(StampKind.USER, self.name))
    return self


def _exit(self: Any, kind: Any, error: Any, traceback: Any) -> None:
    self.record.__exit__(None, None, None)


def _format(tensor: FakeTensor, form: str) -> str:
    """A number in a text, such as the name of an expert, which torch writes for tensors of no subclass alone.

    Source: ``Tensor.__format__`` in torch/_tensor.py.
    """
    if tensor.dim() == 0 and not isinstance(tensor, nn.Parameter):
        return format(tensor.detach().item(), form)
    return Tensor.__format__(tensor, form)  # type: ignore[no-any-return]  # torch's own


def _same(mode: FakeTensorMode, memo: Any) -> FakeTensorMode:
    """What a fake parameter's copy belongs to: the mode of the original.

    torch's own ``Tensor.__deepcopy__`` would copy the mode as well, and with it references to storages that are counted
    once and given back twice, of which the process dies some time later.
    """
    return mode


def _resizing(memory: VirtualMemory) -> Callable[[torch.UntypedStorage, int], torch.UntypedStorage]:
    """A storage's own resize, told to ``memory``: no operator says so. FSDP2 frees gathered parameters like this."""
    original = torch.UntypedStorage.resize_

    def resize(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
        original(storage, size)
        memory.resized(storage)
        return storage

    return resize


def _swap(first: Tensor, second: Tensor) -> None:
    """Swap two tensors' contents although fake tensors are referred to weakly, which torch's own function refuses."""
    first.__dict__, second.__dict__ = second.__dict__, first.__dict__
    torch._C._swap_tensor_impl(first, second)


def _without_modes(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes real tensors of no elements of a lazy class, which fakes cannot be given (torch/nn/parameter.py)."""

    def make(*args: Any, **kwargs: Any) -> Tensor:
        with _disable_current_modes():
            return original(*args, **kwargs)

    return make


def _materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
    """Become a fake with this shape. Source: ``UninitializedTensorMixin.materialize`` in torch/nn/parameter.py."""
    with _disable_current_modes():
        empty = self.data
    made: Any = torch.empty(shape, device=device or empty.device, dtype=dtype or empty.dtype)
    if self.cls_to_become is nn.Parameter:
        made = nn.Parameter(made, self.requires_grad)
    self.__class__ = type(made)
    vars(self).update(vars(made))
    torch._C._swap_tensor_impl(self, made)


def _of_tensors(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.ctc_loss``, which for a mean writes lengths that are numbers into memory: as tensors they need none."""

    def loss(
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Any,
        target_lengths: Any,
        blank: int = 0,
        reduction: int = 1,
        zero_infinity: bool = False,
    ) -> Tensor:
        if reduction == 1 and not isinstance(input_lengths, Tensor):
            input_lengths, target_lengths = torch.tensor(input_lengths), torch.tensor(target_lengths)
        return original(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)

    return loss
