"""The dispatch mode under which a workload runs on fake tensors: sees every operator, and puts right what fakes change.

Fake tensors describe tensors without memory (torch/_subclasses/fake_tensor.py). Every operator passes here, below
autograd.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from vramscope.recorders.virtual import values
from vramscope.recorders.virtual.composites import Composites
from vramscope.recorders.virtual.memory import VirtualMemory
from vramscope.recorders.virtual.rebased_views import RebasedViews
from vramscope.recorders.virtual.truths import Truths

aten = torch.ops.aten
Run = Callable[..., Any]
Rule = Callable[["VirtualMode", OpOverload, tuple[Any, ...], Mapping[str, Any]], Any]
_TORCHS_OWN = frozenset(("aten", "prim", "prims", "c10d", "_c10d_functional", "profiler", "mkldnn", "inductor", "fsdp"))


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    """An operator's argument, given by place or by name or not at all."""
    return args[place] if len(args) > place else kwargs.get(name, default)


class VirtualMode(TorchDispatchMode):
    """Runs each operator on fake tensors, by the rule for it where there is one.

    Args:
        memory: told of every result.
        rules: by operator; each is called with this mode, the operator and its arguments.
    """

    def __init__(self, memory: VirtualMemory, rules: Mapping[OpOverload, Rule]) -> None:
        super().__init__()
        self.memory = memory
        self._rules = rules
        self.composites = Composites()
        self.truths = Truths()
        self._views = RebasedViews(self)
        self._asked = (0, 0)
        """How often in a row a device was asked for, and of which tensor last, by the number of its C++ object."""
        self.notes: dict[str, None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and note the storages that are new in its result."""
        if func is torch.ops.prim.device.default:
            self._asked = self._asked[0] + 1, args[0]._cdata
            return args[0].fake_device if isinstance(args[0], FakeTensor) else args[0].device
        kwargs = kwargs or {}
        self._views.called(func, args)
        result = self._run_seen(func, args, kwargs)
        self._views.made(func, result)
        self.truths.made(func, args, result)
        return result

    def _run_seen(self, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._views.are_at_work(func, args):
            return self._views.run(func, args, kwargs)
        rule = self._rules.get(func)
        if rule is not None:
            return rule(self, func, args, kwargs)
        if func.namespace not in _TORCHS_OWN and "Tensor" in str(func._schema):
            name = func.name().partition(".")[0]
            self.note(f"custom operator {name}: what its kernel takes beside its results counts as 0: a lower bound")
        if torch.is_inference_mode_enabled() and self.composites.is_composite(func):
            with self, self.composites.taken_apart(func):
                return func._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args, **kwargs)
        return self.run(func, *args, **kwargs)

    def run(self, func: OpOverload, *args: Any, **kwargs: Any) -> Any:
        """The operator on fake tensors, its new storages noted."""
        result = self.describe(func, *args, **kwargs)
        if func is aten.lift_fresh.default and type(args[0]) is Tensor:
            self._take_in(result, args[0].untyped_storage())
        else:
            self.memory.see(result)
        return result

    def _take_in(self, fake: Tensor, storage: torch.UntypedStorage) -> None:
        """A fake takes the place of a real tensor, unless its memory is none of the allocator's, as a numpy array's is.

        Source: ``TensorMaker::make_tensor`` in aten/src/ATen/templates/Functions.cpp, which makes a storage over memory
        from elsewhere that cannot be resized.
        """
        if storage.resizable():
            self.memory.see(fake, storage.data_ptr())
        else:
            self.memory.ignore(fake)

    def run_rule(self, func: OpOverload, *args: Any, **kwargs: Any) -> Any:
        """The operator by its rule where there is one."""
        rule = self._rules.get(func)
        return self.run(func, *args, **kwargs) if rule is None else rule(self, func, args, kwargs)

    def describe(self, func: OpOverload, *args: Any, **kwargs: Any) -> Any:
        """The operator's fake result; the caller notes what is new in it."""
        self._asked = (0, 0)
        with self.memory.hide():
            return values.run(func, args, kwargs)

    def run_real(self, func: OpOverload, *args: Any, **kwargs: Any) -> Any:
        """The operator on real tensors, unseen."""
        with self.memory.hide(), _disable_current_modes():
            return func(*args, **kwargs)

    def asked_for_device(self, tensor: Tensor) -> int:
        """How often in a row a device was asked for, if this tensor's was the last; nothing has run since."""
        times, last = self._asked
        return times if tensor._cdata == last else 0

    def take_as_asked_once(self) -> None:
        """Count from one, whatever the device of the next tensor is asked for."""
        self._asked = (1, 0)

    def scratch(self, size: int) -> Any:
        """A block of so many bytes, which ends with the last reference to what this returns."""
        return self.run(aten.empty.memory_format, [size], dtype=torch.uint8)

    def like(self, tensor: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
        """Another tensor of the same shape and type."""
        made: Tensor = self.run(aten.empty_like.default, tensor, memory_format=layout)
        return made

    def copied(self, tensor: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Tensor | None:
        """A copy of a tensor that does not lie so; None of one that does."""
        return None if tensor.is_contiguous(memory_format=layout) else self.like(tensor, layout)

    def shrink(self, tensor: Tensor, shape: Sequence[int] = ()) -> Tensor:
        """Give a tensor a smaller shape, in memory that stays as large as it was."""
        self.describe(aten.resize_.default, tensor, list(shape))
        return tensor

    def note(self, remark: str) -> None:
        """Tell the reader of the recording, once."""
        self.notes[remark] = None


def run(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The rule for an operator that allocates as its fake results say."""
    return mode.run(func, *args, **kwargs)


def made_of_others(compose: Callable[..., Any]) -> Rule:
    """The rule for an operator that is made of others: what ``compose`` calls is seen one by one."""

    def rule(mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        with mode, mode.composites.taken_apart(func):
            return compose(*args, **kwargs)

    return rule


class WithoutDevice(TorchFunctionMode):
    """Leaves out numbers made without a device: on a GPU's machine they lie in host memory, as step counters do."""

    def __init__(self, memory: VirtualMemory) -> None:
        super().__init__()
        self._memory = memory
        self._makes = _device_constructors()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function; whether it names a device is seen nowhere below."""
        kwargs = kwargs or {}
        if func not in self._makes or kwargs.get("device") is not None:
            return func(*args, **kwargs)
        with self._memory.elsewhere():
            return func(*args, **kwargs)
