"""The virtual recorder: a Recording of a run that takes no memory, on fake tensors.

Method: the workload runs under the profiler recorder as it would for real, with every tensor fake. Scopes, phases and
marks come about as always; births and deaths of fake storages are stamped into the profiler's stream, where real ones
would be.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from types import FrameType
from typing import Any

from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import LBFGS, Optimizer

from vramscope.recorders.conversion import StringTable, Tables, convert
from vramscope.recorders.labels import Label, nested_tensors
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.threads import one_thread
from vramscope.recorders.virtual.memory import VirtualMemory
from vramscope.recorders.virtual.mode import Rule, VirtualMode, WithoutDevice
from vramscope.recorders.virtual.moves import moves_seen
from vramscope.recorders.virtual.operators.cpu_rules import CPU_RULES
from vramscope.recorders.virtual.patches import as_it_would_run, patched_torch
from vramscope.recorders.virtual.reader import VirtualReader, with_totals
from vramscope.recorders.virtual.substitutes import doubts
from vramscope.recording.recording import MarkKind, PhaseName, Recording, Source

_LBFGS = "LBFGS: its loss is taken not to change, so that it ends early and keeps no directions: a lower bound"


class VirtualRecorder(ProfilerRecorder):
    """Records what the code between `start` and `finish` would allocate on the CPU, or elsewhere by other rules.

    Args:
        rules: by operator, where its results do not tell what it allocates.
        keep_real: whether what lies in host memory counts: numbers that torch wraps as real tensors on the way, and
            numbers that an optimizer makes without naming a device.
        kernels: lets torch's operators be made of others as on another device, while it is entered.
    """

    _source = Source.VIRTUAL

    def __init__(
        self,
        rules: Mapping[OpOverload, Rule] = CPU_RULES,
        *,
        keep_real: bool = True,
        kernels: AbstractContextManager[Any] | None = None,
    ) -> None:
        super().__init__()
        self._kernels = kernels or nullcontext()
        self._keep_real = keep_real
        self._memory = VirtualMemory()
        self._mode = VirtualMode(self._memory, rules)
        self._modes = ExitStack()
        self._optimizer = ExitStack()

    def start(self, seeds: Iterable[Label] = ()) -> None:
        """Begin: from here on every new tensor is fake."""
        super().start(seeds)
        self._modes.enter_context(one_thread())  # all that is computed are known numbers, a few at a time
        self._modes.enter_context(patched_torch(self._memory))
        if not self._keep_real:
            self._modes.enter_context(moves_seen(self._memory))
        self._modes.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        self._modes.enter_context(self._mode.composites.autocast_watched())
        self._modes.enter_context(self._mode)
        self._modes.enter_context(self._kernels)
        as_it_would_run(self._modes)

    def watch(self, model: nn.Module, root: str | None = None) -> None:
        """Label the model, whose tensors count from now on if an earlier run in this process made them."""
        as_it_would_run(self._modes)
        self._memory.move_here([*model.parameters(), *model.buffers()])
        super().watch(model, root)

    def mark_inputs(self, tensors: Any) -> None:
        """Label inputs, which count from now on if an earlier run in this process made them."""
        self._memory.move_here(tensor for _, tensor in nested_tensors(tensors))
        super().mark_inputs(tensors)

    def mark_found(self, labels: Iterable[Label]) -> None:
        """Record labels; nothing is older than a run on fakes, and what it has not seen is in host memory."""
        self.mark(labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know so far."""
        return tuple(self._mode.notes)

    @property
    def moment(self) -> int:
        """How much was born and went so far: where `sizes_since` may begin."""
        return len(self._memory.events)

    def sizes_since(self, moment: int) -> list[int]:
        """Requested bytes of all that was born since, in order, and negative ones of what went, workspaces included."""
        return [event.size for event in self._memory.events[moment:]]

    def abandon(self) -> None:
        """Stop everything and keep nothing."""
        self._leave_modes()
        super().abandon()

    def finish(self, workload: Mapping[str, Any] | None = None, notes: Sequence[str] = ()) -> Recording:
        """Stop, and give the Recording."""
        self._leave_modes()
        self.mark(
            Label(MarkKind.LIBRARY_WORKSPACE, "cuBLAS", "", address, size, self.device)
            for address, size in self._memory.workspaces
        )
        recording = super().finish(workload, (*notes, *self.notes, *doubts(self.notes)))
        events, device = with_totals(recording.events, recording.devices[0])
        return replace(recording, events=events, devices=(device,))

    def _before_optimizer(self, optimizer: Optimizer, caller: FrameType) -> None:
        super()._before_optimizer(optimizer, caller)
        self._optimizer.close()
        if isinstance(optimizer, LBFGS):
            self._mode.note(_LBFGS)
        if not self._keep_real:
            self._optimizer.enter_context(WithoutDevice(self._memory))

    def _phase_ends(self, name: str) -> None:
        if name == PhaseName.OPTIMIZER:  # also where its step has raised
            self._optimizer.close()
        super()._phase_ends(name)

    def _leave_modes(self) -> None:
        self._optimizer.close()
        self._modes.close()
        self._memory.close()

    def _convert(self, strings: StringTable) -> Tables:
        def reader(strings: StringTable, devices: Mapping[str, int]) -> VirtualReader:
            return VirtualReader(strings, devices, virtual=self._memory.events, keep_real=self._keep_real)

        return convert(self._window.take_roots(), strings, self._devices, self._batches, [], reader)
