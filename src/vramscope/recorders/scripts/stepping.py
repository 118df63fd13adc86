"""Steps of a script, one after another: recorded where that is planned, counted where it is not."""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from vramscope.recorders.autograd_threads import in_backward
from vramscope.recorders.batches import inputs_in
from vramscope.recorders.given import GivenOut
from vramscope.recorders.gradients import GradientLives
from vramscope.recorders.hooks import BackwardHook, BackwardPass, CallObserver
from vramscope.recorders.labels import Label, kv_cache, label_kv_cache, label_tensor
from vramscope.recorders.scripts.live import LiveBytes
from vramscope.recorders.scripts.recorder import MOST_CALLS, Carried, StepRecorder
from vramscope.recorders.scripts.rehearsal import Rehearsal
from vramscope.recorders.scripts.scene import Scene
from vramscope.recorders.scripts.storing import PartStore
from vramscope.recorders.scripts.surroundings import OpenScopes, OtherProfilers
from vramscope.recorders.scripts.windows import GrowthWatch, WindowPlan
from vramscope.recording.recording import MarkKind, Recording, ScopeKind

_TRACED = "source lines are missing: the script has a trace function of its own (sys.settrace), which is left alone"


class StepKind(StrEnum):
    """What a step of a script is."""

    TRAINING = "training"
    INFERENCE = "inference"


class Obstacle(StrEnum):
    """Why a step that was planned could not be recorded, in words."""

    PROFILER = "because the script's own torch.profiler was running"
    SCOPE = "because a record_function scope was open that began in a step before"
    BACKWARD = "because it began within a backward pass"
    OVERFULL = f"because it held more than {MOST_CALLS:,} calls of modules, whose events would take gigabytes of memory"


class WindowObserver(CallObserver, Protocol):
    """Who is told when recording begins and ends, to put hooks in their places, and what is called meanwhile."""

    def window_begins(self, recorder: StepRecorder) -> None:
        """A profiler has been started."""

    def window_pauses(self) -> None:
        """No profiler runs for now, since the script runs its own; steps are still wanted."""

    def scope_left(self) -> None:
        """A forward, a backward pass or a scope is over, in which a step may have ended: time to `Stepping.settle`."""

    def window_ends(self, kind: StepKind) -> None:
        """Steps are only counted from now on; the last one was of this kind."""


class Stepping:
    """Exchanges the profiler at the end of every recorded step, so that the step can be put on disk at once.

    A profiler is never started while a scope is open that an earlier one has seen begin (see `OpenScopes`); where the
    script holds one open over the ends of its steps, the steps share one profiler and one part.
    """

    def __init__(
        self,
        plan: WindowPlan,
        store: PartStore,
        scene: Scene,
        scopes: OpenScopes,
        others: OtherProfilers,
        observer: WindowObserver,
    ) -> None:
        self._plan, self._store, self._scene = plan, store, scene
        self._scopes, self._others, self._observer = scopes, others, observer
        self._growth = {kind: GrowthWatch(plan.rearm) for kind in StepKind}
        self._live: LiveBytes | None = None
        self._waiting: StepKind | None = None
        self._expected = StepKind.INFERENCE
        self._carried: Carried | None = None
        self._lives = GradientLives()  # of gradients, in the window that is open
        self._rehearsal: Rehearsal | None = None
        self._rehearses = True
        self._due: tuple[StepKind, GradientLives | None] | None = None
        """What is to be recorded as soon as a backward pass is over: no profiler can start within one."""
        self._signal: BackwardHook | None = None
        self._complete = 0  # steps that ended in the profiler that is running
        self._given = GivenOut()
        # kinds and names in the step that runs, or in the one before where that has just ended; keeps no tensor alive
        self._inputs: MutableMapping[Tensor, tuple[MarkKind, str]] = WeakTensorKeyDictionary()
        self._earlier: MutableMapping[Tensor, tuple[MarkKind, str]] = WeakTensorKeyDictionary()
        self._cached: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()  # keys and values, likewise
        self._notes: tuple[str, ...] = ()
        self.recorder: StepRecorder | None = None
        self.counts: Counter[StepKind] = Counter()
        self.reading_seconds = 0.0
        """What exchanging profilers and storing steps has taken."""
        self.missing: dict[Obstacle, list[str]] = {obstacle: [] for obstacle in Obstacle}
        """Steps that were planned and could not be recorded, in words."""

    def begin_at_once(self) -> None:
        """Record from now on, before any step has shown itself."""
        if self._plan.wants(0):
            self._start(StepKind.TRAINING)
        elif self._plan.wants(1):
            self._rehearse()

    def step_ended(self, kind: StepKind) -> None:
        """A step is over; its profiler is exchanged as soon as torch's own hooks and scopes around its end are left."""
        self._waiting = kind
        self.settle()

    def settle(self) -> None:
        """A scope, a pass or a module has been left: exchange or start the profiler if that was waited for."""
        recorder, kind, begin = self.recorder, self._waiting, time.perf_counter()
        if self._scopes.are_in_optimizer or (recorder is not None and recorder.is_inside):
            return
        if self._due is not None and not in_backward():
            due, rehearsed = self._due
            self._no_longer_due()
            self._start_unless_busy(due, self.counts[due], rehearsed)
        elif kind is None:
            return
        elif recorder is not None and self._scopes.hold_profiler:
            self._waiting = None
            self._pass(kind, recorder)
        else:
            self._waiting = None
            self._turn(kind)
        self.reading_seconds += time.perf_counter() - begin

    def make_way(self) -> None:
        """The script starts a profiler of its own: the step that is being recorded cannot be finished."""
        if self.recorder is not None:
            self._lose(Obstacle.PROFILER)

    def call_is_over(self) -> None:
        """A call from outside any module has ended well: where steps that hold too many are given up.

        There no hook of ours, nor torch's loop over hooks, waits for a recorder that would be gone.
        """
        recorder = self.recorder
        if recorder is None or not recorder.is_overfull or recorder.is_inside:
            return
        if self._waiting is None and not self._scopes.are_in_optimizer:
            begin = time.perf_counter()
            self._lose(Obstacle.OVERFULL)
            self.reading_seconds += time.perf_counter() - begin

    def rehearse_no_more(self) -> None:
        """Something is compiled, which must not see hooks that are gone in the next step."""
        self._rehearses = False
        self._end_rehearsal()

    def keep_failed(self, error: BaseException) -> bool:
        """Put on disk a step in which memory ran out, as far as it went; whether there was one."""
        recorder = self.recorder
        if recorder is None or not recorder.failed(error):
            return False
        self._finish(self._expected, recorder)
        return True

    def drop(self) -> None:
        """Stop recording and keep nothing of the step that is running."""
        recorder, self.recorder, self._carried = self.recorder, None, None
        self._scopes.are_seen = False
        self._no_longer_due()
        self._end_rehearsal()
        if recorder is not None:
            recorder.discard()

    # -- from one step to the next ----------------------------------------------------------------------------------

    def _turn(self, kind: StepKind) -> None:
        index = self._take(kind)
        if self.recorder is not None:
            self._finish(kind, self.recorder)
        else:
            self._count(kind, index)
        rehearsed = self._end_rehearsal()
        if self._due is not None:
            self._missed(kind, index)
        # a profiler that began within a backward pass would break its own hooks
        if self._wants(kind, index + 1) and in_backward():
            self._due = kind, rehearsed
            if rehearsed is None:  # it may be that nobody else tells when a pass is over
                self._signal = BackwardHook(self._around_backward)
        elif self._wants(kind, index + 1):
            self._start_unless_busy(kind, index + 1, rehearsed)
        else:
            self._carried = None
            self._observer.window_ends(kind)
            if self._plan.wants(index + 2):
                self._rehearse()
        self._forget_tensors(kind)

    def _lose(self, obstacle: Obstacle) -> None:
        """Keep nothing of the step that is running, nor of those before it in the same profiler."""
        running = self.counts[self._expected]
        for index in range(running - self._complete, running + 1):
            self._misses(obstacle, self._expected, index)
        self.drop()
        self._observer.window_pauses()

    def _misses(self, obstacle: Obstacle, kind: StepKind, index: int) -> None:
        self.missing[obstacle].append(f"{kind} step {index}")

    def _pass(self, kind: StepKind, recorder: StepRecorder) -> None:
        """A step ended inside a scope of the script's: go on in the same profiler, or stop, which is always safe."""
        index = self._take(kind)
        self._forget_tensors(kind)
        if self._wants(kind, index + 1) and kind == self._expected:
            recorder.mark_found(self._scene.label_more_idle_models())
            recorder.end_step()
            self._complete += 1
            recorder.begin_step(index + 1)
        else:
            self._finish(kind, recorder)
            self._carried = None
            self._observer.window_ends(kind)

    def _take(self, kind: StepKind) -> int:
        """The index of a step of this kind that has just ended."""
        self.counts[kind] += 1
        return self.counts[kind] - 1

    def _wants(self, kind: StepKind, index: int) -> bool:
        return self._plan.wants(index) or self._growth[kind].wants(index)

    def _count(self, kind: StepKind, index: int) -> None:
        if self._live is None:
            self._live = LiveBytes(self._scene.device)
        live_bytes = self._live.read()
        self._store.count(kind, index, live_bytes)
        if self._plan.is_over(index):
            self._growth[kind].add(index, live_bytes)

    def _finish(self, kind: StepKind, recorder: StepRecorder) -> None:
        """Put on disk what was recorded; a step that turned out to be of another kind began as something else.

        It is only counted where it was not to be recorded as what it is.
        """
        recorder.mark_found(self._scene.label_more_idle_models())
        recorder.end_step()
        self._scopes.are_seen = False
        self.recorder = None
        index = self.counts[kind] - 1
        is_other = kind != self._expected and not self._complete
        if is_other and not self._wants(kind, index):
            recorder.discard()
            self._carried = None
            self._count(kind, index)
            return
        facts = {**self._scene.facts(), "pass": str(kind), **self._method()}
        recording, self._carried = recorder.close(facts, self._scene.device, self._notes)
        if is_other:
            recording = _numbered(recording, index)
        self._store.add(recording)

    def _method(self) -> dict[str, str]:
        """How the live bytes of steps are read that are only counted."""
        return {} if self._live is None else {"live_bytes_method": self._live.method}

    def _missed(self, kind: StepKind, index: int) -> None:
        """A step that was wanted is over, and no backward pass had ended before it began."""
        self._no_longer_due()
        if self._growth[kind].wants(index):
            self._growth[kind].put_off()
        else:
            self._misses(Obstacle.BACKWARD, kind, index)

    @contextmanager
    def _around_backward(self, backward: BackwardPass) -> Iterator[None]:
        try:
            yield
        finally:
            self._observer.scope_left()

    def _no_longer_due(self) -> None:
        self._due = None
        if self._signal is not None:
            self._signal.remove()
            self._signal = None

    def _rehearse(self) -> None:
        if self._rehearses:
            self._rehearsal = Rehearsal((model for model, _ in self._scene.roots), self._observer.scope_left)

    def _end_rehearsal(self) -> GradientLives | None:
        """What the step that has ended has shown of gradients, if it was watched for that."""
        rehearsal, self._rehearsal = self._rehearsal, None
        return None if rehearsal is None else rehearsal.step_ended()

    def _start_unless_busy(self, kind: StepKind, index: int, rehearsed: GradientLives | None) -> None:
        if self._others.are_running or self._scopes.hold_profiler:
            self._misses(Obstacle.PROFILER if self._others.are_running else Obstacle.SCOPE, kind, index)
            self._carried = None
            self._observer.window_pauses()
        else:
            self._start(kind, rehearsed)

    def _start(self, kind: StepKind, rehearsed: GradientLives | None = None) -> None:
        if self._carried is None:
            self._store.begin_window()
            self._lives = rehearsed or GradientLives()
            self._scene.find_idle_models()
        index = self.counts[kind]
        lines = self._growth[kind].wants(index)
        traced = lines and sys.gettrace() is None
        recorder = StepRecorder(
            self._scene.device, lines=traced, lives=self._lives, on_left=self._observer.scope_left, calls=self._observer
        )
        self._notes = (_TRACED,) if lines and sys.gettrace() is not None else ()
        self._others.ours = self._scopes.are_seen = True
        try:
            labels = itertools.chain(self._scene.labels(), self._input_labels())
            recorder.begin(self._scene, labels, self._carried)
        finally:
            self._others.ours = False
        self.recorder, self._expected, self._complete = recorder, kind, 0
        self._observer.window_begins(recorder)
        recorder.begin_step(index)

    def _forget_tensors(self, kind: StepKind) -> None:
        """What came and was given belongs to the step that has ended; their addresses may be anything's by now.

        What has been taken for an inference step may turn out to be the beginning of the first training step.
        """
        self._earlier = self._inputs if kind is StepKind.INFERENCE else WeakTensorKeyDictionary()
        self._inputs = WeakTensorKeyDictionary()
        self._cached.clear()
        self._given.clear()

    def found(self, model: nn.Module, prefix: str) -> None:
        """A model that was not known before."""
        if self.recorder is not None:
            self.recorder.watch(model, prefix)
        elif self._rehearsal is not None:
            self._rehearsal.watch(model)

    def call_begins(self, args: Any, kwargs: Any) -> None:
        """A model is called: with inputs, and perhaps with keys and values, which the script may have made anew."""
        self.inputs_come((args, kwargs))
        self._take_note_of_cache(kwargs)
        if self.recorder is not None:
            self.recorder.mark(label_kv_cache(kwargs))

    def _take_note_of_cache(self, holder: Any) -> None:
        """For the next profiler; the recorder looks for itself, and says where it cannot."""
        with suppress(Exception):  # objects of the program may raise anything
            for name, tensor in kv_cache(holder):
                self._cached[tensor] = name

    def inputs_come(self, nest: Any) -> None:
        """A model is called with these, or a loader gives them: inputs, except what a model of this step gave out."""
        found = [(kind, name, tensor) for kind, name, tensor in inputs_in(nest) if self._is_input(tensor)]
        for kind, name, tensor in found:
            self._inputs.setdefault(tensor, (kind, name))  # a batch that is loaded ahead comes once more in its turn
        if self.recorder is not None:
            self.recorder.mark(label for kind, name, t in found for label in label_tensor(kind, name, t))

    def target_comes(self, target: Any) -> None:
        """One of torch's losses takes this as its target; what a model of this step gave out stays what it is."""
        if self.recorder is not None and type(target) is Tensor and not target.requires_grad:
            labels = label_tensor(MarkKind.TARGET, "", target)
            self.recorder.mark(label for label in labels if not self._given.holds(label.address))

    def _input_labels(self) -> Iterator[Label]:
        """What has come as inputs in the step that has just ended, as far as the script still holds it."""
        for tensor, (kind, name) in itertools.chain(self._inputs.items(), self._earlier.items()):
            yield from label_tensor(kind, name, tensor)
        for tensor, name in self._cached.items():
            yield from label_tensor(MarkKind.KV_CACHE, name, tensor)

    def model_gave(self, output: Any) -> None:
        """A model has returned: what it gives out is no input when the script hands it on to the next one."""
        self._take_note_of_cache(output)
        if self.recorder is not None:
            self._given.add(output)

    def _is_input(self, tensor: Tensor) -> bool:
        return tensor.grad_fn is None and not self._given.includes(tensor)  # outside of recorded steps nothing is given


def _numbered(recording: Recording, index: int) -> Recording:
    """The recording of one step, with another index than it was begun with."""
    scopes = recording.scopes
    value = np.where(scopes.kind == ScopeKind.STEP, index, scopes.value)
    return replace(recording, scopes=replace(scopes, value=value))
