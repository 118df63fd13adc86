"""Records one step of a script after another: each in a profiler of its own, so that each can be on disk as it ends."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer

from vramscope.recorders.cuda.gpu import GpuRecorder
from vramscope.recorders.device_order import with_main_device
from vramscope.recorders.devices import all_gpus, gpu_problem
from vramscope.recorders.failures import out_of_memory
from vramscope.recorders.gradients import GradientLives
from vramscope.recorders.hooks import BackwardPass, CallObserver
from vramscope.recorders.labels import Label, label_optimizer_state, labels_to_keep
from vramscope.recorders.profiler import ProfilerRecorder
from vramscope.recorders.scripts.scene import Scene
from vramscope.recorders.seeds import Place, SeedWatch
from vramscope.recorders.stamps import StampKind, stamp
from vramscope.recorders.window import ProfilerWindow
from vramscope.recording.recording import UNKNOWN, Integers, Recording

MOST_CALLS = 200_000
"""Calls of modules that a recorded step may hold. Each takes 15 to 20 KB until the step is on disk, where it runs a
kernel or two: 3 to 4 GB in all. A model of 1,000 modules in 100 micro-batches is within it, 40,000 forwards of a small
one, as in a rollout, are not."""


class StepRecorder(ProfilerRecorder):
    """Records a stretch of a script that ends at a step's end; it begins in the middle of the program's life.

    A forward pass begins with the outermost forward of any watched module. What the stretch before left alive is
    carried over, and so is what it learnt of gradients.
    """

    _sees_compiled_steps = False  # a session is told of them from outside

    def __init__(
        self,
        device: torch.device,
        *,
        lines: bool,
        lives: GradientLives,
        on_left: Callable[[], None],
        calls: CallObserver,
    ) -> None:
        super().__init__(device, lines=lines)
        self._lives = lives
        self._window = ProfilerWindow(looks=False)  # a session has seen every profiler of its script begin
        self._calls = calls
        self._on_left = on_left
        self._depth = 0
        self._passes = 0
        self._earlier_calls = 0  # of steps that are over
        self._compiled_step: FrameType | None = None
        self._holds_forward = False
        self._take_up_gpus()
        self._seeded = SeedWatch(self._devices, self._seed_ends)

    def begin(self, scene: Scene, seeds: Iterable[Label], before: "Carried | None") -> None:
        """Start, with the models and optimizers found so far and what is alive already."""
        self.optimizer_names = scene.optimizer_names
        self.look_at_devices()
        self._seeded.watch(seeds)
        if before is not None:
            before.hand_to(self._seeded)
        self.start()
        for model, prefix in scene.roots:
            self.watch(model, prefix)
        for part in scene.roots.called():
            self._module_hooks.watch_call(part)
        for optimizer in scene.optimizers:
            self.watch_optimizer(optimizer)

    def watch(self, model: nn.Module, root: str | None = None) -> None:
        """As any recorder; watched models that turn out to be parts of this one give way, under its names all along."""
        for path, part in self._module_hooks.take_back(model):
            names = _new_names(part, path, model, root or "")
            self._batches = [[item.renamed(names) for item in batch] for batch in self._batches]
            self._watched.forget(part, names)
        super().watch(model, root)

    def hook_singly(self, may_hook: Callable[[nn.Module], bool]) -> None:
        """Hook watched models alone, each by itself, as far as ``may_hook`` allows."""
        self._module_hooks.hook_singly(may_hook)
        self._depth = 0  # nobody will tell that the forwards end which run now
        self._holds_forward = False

    def compiled_step_begins(self, caller: FrameType, runs_module: bool) -> None:
        """A compiled function begins that may step optimizers, after a forward and a backward pass or without them.

        Args:
            caller: the frame that runs for as long as the function.
            runs_module: whether there is a forward pass.
        """
        self._compiled_step = caller
        self._holds_forward = runs_module
        if runs_module:
            self.forward_begins(True, None)
        else:
            self._optimizers_begin()

    def _optimizers_begin(self) -> None:
        if self._compiled_step is not None:
            self.mark(self._watched.gradient_labels())
            self._phases.optimizer_begins(self._compiled_step)

    def compiled_step_ended(self, optimizers: Iterable[Optimizer]) -> None:
        """It has ended, and has stepped these optimizers."""
        self._compiled_step = None
        for optimizer in optimizers:
            self.mark(label_optimizer_state(optimizer, self._watched.name_of, labels_to_keep))
        self._phases.optimizer_ends()
        if self._holds_forward:
            self.forward_ended(None, None)

    def call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is run by a call that no hook of its own tells of."""
        self._module_hooks.before(module, args, kwargs)

    def call_ended(self, module: nn.Module, output: Any) -> None:
        """The call has ended; ``output`` is None after an exception."""
        self._module_hooks.after(module, (), output)

    def begin_step(self, index: int) -> None:
        """Put a step's beginning on the clock."""
        self._earlier_calls = self._module_hooks.calls_seen
        stamp(StampKind.STEP_BEGIN, index)

    def end_step(self) -> None:
        """Put the step's end on the clock."""
        self._phases.end_found()
        self._note_ended_seeds()
        stamp(StampKind.STEP_END)
        self._gradients.step_ended()

    def discard(self) -> None:
        """Stop, and keep nothing: the events go at once, not when Python's garbage is collected."""
        self.abandon()
        self._window.forget()
        self._batches.clear()

    def close(
        self, workload: Mapping[str, Any], main: torch.device, notes: Sequence[str] = ()
    ) -> tuple[Recording, "Carried"]:
        """Stop, and give the Recording and what is alive at its end.

        Args:
            workload: facts of the script.
            main: the device that matters, which may have shown itself only since the beginning.
            notes: what the reader should know.
        """
        self._take_up_gpus()
        recording = with_main_device(self.finish(workload, notes), str(main))
        return recording, Carried(recording, self._seeded.watched())

    def _sample(self) -> None:
        self._take_up_gpus()
        super()._sample()

    def _take_up_gpus(self) -> None:
        """Record the GPUs too once the script uses them: to ask for them earlier would start CUDA in its stead.

        Where CUDA has started since the beginning nothing was allocated there before: their totals began with 0.
        """
        if self._gpu is None and torch.cuda.is_initialized() and not gpu_problem():
            gpus = all_gpus()
            self._devices += gpus
            self._gpu = GpuRecorder(self._devices, history=False, own_process=False)
            self._start_totals = dict.fromkeys(gpus, 0)

    @property
    def is_overfull(self) -> bool:
        """Whether the step that is running holds more calls than can be recorded."""
        return self._module_hooks.calls_seen - self._earlier_calls > MOST_CALLS

    @property
    def is_inside(self) -> bool:
        """Whether a watched module's forward or a backward pass is running."""
        return self._depth > 0 or self._passes > 0

    def forward_begins(self, is_root: bool, kwargs: Any) -> bool | None:
        """The outermost forward of any watched module begins a forward pass, be it a model's own or not."""
        if not self._is_own_thread():
            return None
        self._depth += 1
        # of caches among the arguments the session tells, of compiled calls' too
        return super().forward_begins(True, None) if self._depth == 1 else None

    def forward_ended(self, began: bool | None, output: Any) -> None:
        """It has ended; only the outermost one matters."""
        if not self._is_own_thread():
            return
        self._depth -= 1
        if not self._depth:
            super().forward_ended(began, output)
            self._on_left()

    @contextmanager
    def _around_backward(self, backward: BackwardPass) -> Iterator[None]:
        """A step that ends in it, by an optimizer that steps in a hook, ends with it."""
        own = self._is_own_thread()
        self._passes += own
        ran_out = False
        try:
            with super()._around_backward(backward):
                yield
        except Exception as error:
            ran_out = out_of_memory(error) is not None
            raise
        finally:
            self._passes -= own
            if own and backward.accumulates:
                self._optimizers_begin()
            if own and not ran_out:  # else the recording is to end with the failure in it
                self._on_left()


def _new_names(part: nn.Module, path: str, model: nn.Module, root: str) -> dict[str, str]:
    """What the parameters and buffers of a model will be called as a part of another, by their names so far."""
    new: dict[int, str] = {}
    for name, tensor in _named_tensors(model, root):
        new.setdefault(id(tensor), name)
    return {name: new[id(tensor)] for name, tensor in _named_tensors(part, path) if id(tensor) in new}


def _named_tensors(model: nn.Module, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(prefix=path)
    yield from model.named_buffers(prefix=path)


class Carried:
    """What one stretch left alive, for the next one to begin with."""

    def __init__(self, recording: Recording, watched: Mapping[Place, StorageWeakRef]) -> None:
        """See what is alive at the end of a recording, seeds included that were not found gone."""
        self._sizes = alive_at_end(recording)
        self._watched = {place: watched[place] for place in self._sizes.keys() & watched.keys()}

    def hand_to(self, seeds: Any) -> None:
        """Seed the next stretch with it, as far as live objects have not done so."""
        for place, size in self._sizes.items():
            seeds.carry(place, size, self._watched.get(place))


def alive_at_end(recording: Recording) -> dict[Place, int]:
    """Bytes of what is alive when a recording ends."""
    seeds, events = recording.seeds, recording.events
    kept = seeds.take(seeds.gone_ns == UNKNOWN)
    device = np.concatenate([kept.device, events.device])
    address = np.concatenate([kept.address, events.address])
    size = np.concatenate([kept.size, events.size])
    last = _last_rows(device, address)
    last = last[size[last] > 0]
    names = [recording.devices[number].name for number in device[last].tolist()]
    places = zip(names, address[last].tolist(), strict=True)
    return dict(zip(places, size[last].tolist(), strict=True))


def _last_rows(device: Integers, address: Integers) -> Integers:
    """The last row of each place."""
    order = np.lexsort((np.arange(len(address)), address, device))
    if not len(order):
        return order
    changes = (device[order][1:] != device[order][:-1]) | (address[order][1:] != address[order][:-1])
    last: Integers = order[np.append(changes, True)]
    return last
