"""The session that watches a script from the import of torch to its end, through hooks that hold for everything."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any, ParamSpec

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling
from torch.jit import _recursive
from torch.jit._trace import is_tracing
from torch.nn.modules.loss import _Loss
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer

from vramscope.errors import why_stopped
from vramscope.recorders.autograd_threads import backward_pass, in_backward, works_for
from vramscope.recorders.failures import out_of_memory
from vramscope.recorders.hooks import SingleHook, hook_module, keywords_of, without_single_hooks
from vramscope.recorders.optimizer_hooks import OptimizerHooks
from vramscope.recorders.scripts.compiled import Compiled, CompiledStep
from vramscope.recorders.scripts.cycles import OptimizerCycle
from vramscope.recorders.scripts.made_optimizers import MadeOptimizers
from vramscope.recorders.scripts.recorder import StepRecorder
from vramscope.recorders.scripts.roots import plain_model
from vramscope.recorders.scripts.scene import Scene
from vramscope.recorders.scripts.stepping import Obstacle, StepKind, Stepping
from vramscope.recorders.scripts.storing import PartStore
from vramscope.recorders.scripts.surroundings import Loaders, OpenScopes, OtherProfilers, replace_attribute
from vramscope.recorders.scripts.teachers import Teachers
from vramscope.recorders.scripts.windows import WindowPlan

_TARGET = "target"
"""What the second argument of torch's losses is called."""
_LEFT_OUT = "the step it was in is left out"
_OTHER_STEPS = "; --steps A:B records others, such as some without a rollout or an evaluation"
Arguments = ParamSpec("Arguments")


def _harmless(method: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """A method of a session; where it fails, the script goes on as if we were not there."""

    @wraps(method)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        session: Any = args[0]
        if session.is_over:
            return
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the script's fault
            session.give_up(error)

    return guarded


def _target(args: Any, kwargs: Any) -> Any:
    """What a loss is to compare with, None where it is not told apart."""
    return args[1] if len(args) > 1 else (kwargs or {}).get(_TARGET)


class ScriptSession:
    """Finds models and steps on the thread that imported torch.

    A model is a module with parameters that is called from outside any other; where compilation forbids hooks on all
    modules, it is the outermost that holds the parameters of what is called, or that an optimizer steps. A training
    step ends with the last optimizer step of the optimizers' cycle (see `OptimizerCycle`); as long as no optimizer has
    stepped, each forward without gradients is an inference step, but for those of models beside the one that an
    optimizer is there for.
    """

    def __init__(self, output: Path, plan: WindowPlan) -> None:
        self._store = PartStore(output)  # first: it may refuse, and nothing is to be undone yet
        self.is_over = False
        self._error = self._trace = ""
        self._thread = get_ident()
        self._depth = 0
        self._undo = ExitStack()
        self._module_hooks = ExitStack()
        made = MadeOptimizers(self._undo)
        self._cycle = OptimizerCycle(made.alive)
        self._ended_in: int | None = None  # the backward pass in which a training step has ended
        self._irregular_from: int | None = None  # the first training step that any optimizer step ended
        self._steps_elsewhere = 0  # of optimizers, on threads that are not watched
        self._calls_elsewhere = 0  # of modules, likewise, as far as hooks hold for all modules
        self._scene = Scene()
        self._scopes = OpenScopes(self._undo, self._scopes_closed)
        others = OtherProfilers(self._undo, self._other_profiler_starts)
        Loaders(self._undo, self._batch_loaded)
        self._compiled = Compiled(self._undo, self)
        self._listens = True  # to calls of models, not only to optimizers
        self._compiled_step: CompiledStep | None = None
        self._compiled_depth = 0
        self._gradients = self._scene.gradients()
        self._teachers = Teachers(made.alive)
        self._only_infers = False
        self._only_models_tell = False  # by hooks that stay from one counted inference step to the next
        self._steps = Stepping(plan, self._store, self._scene, self._scopes, others, self)
        self._undo.callback(OptimizerHooks(self._before_optimizer, self._after_optimizer, compiled=False).remove)
        self._undo.callback(self._module_hooks.close)
        replace_attribute(self._undo, _recursive, "create_script_module", without_single_hooks)
        self._hook_modules()
        os.register_at_fork(after_in_child=self._forked)
        self._steps.begin_at_once()

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self, remark: str, error: BaseException | None = None) -> dict[str, Any]:
        """End with the script, seal the recording, and say how it went.

        Args:
            remark: how the script ended, where that was no normal end.
            error: what ended it.
        """
        ran_out = False
        if not self.is_over:
            try:
                ran_out = error is not None and self._steps.keep_failed(error)
                self._finish(remark, ran_out)
            except Exception as defect:  # noqa: BLE001 - the script is over; all that is left is to say so
                self.give_up(defect)
        steps = {str(kind): count for kind, count in self._steps.counts.items()}
        found: dict[str, Any] = {"steps": steps, "parts": self._store.parts, "sealed": self._store.is_sealed}
        found["out_of_memory"] = ran_out
        found["not_recorded"] = self._not_recorded()
        if not ran_out and out_of_memory(error) is not None:
            found["failed_step"] = max(self._steps.counts.values(), default=0)
        found["optimizers"] = self._optimizers()
        found["reading_out_seconds"] = self._steps.reading_seconds
        return {**found, "error": self._error, "traceback": self._trace}

    def _optimizers(self) -> dict[str, Any]:
        """Which optimizers have stepped and which were waited for, should nobody know of a training step that ended."""
        times = os.times()  # of child processes, those that have ended
        return {
            "steps": dict(self._cycle.steps),
            "awaited": self._cycle.awaited,
            "steps_elsewhere": self._steps_elsewhere,
            "calls_elsewhere": self._calls_elsewhere,
            "models": self._scene.roots.found,
            "children_seconds": times.children_user + times.children_system,
        }

    def _finish(self, remark: str, ran_out: bool) -> None:
        ending = "memory ran out in its last step, which is kept up to there" if ran_out else _LEFT_OUT
        notes = [f"{remark}; {ending}"] if remark else []
        notes += self._not_recorded()
        self._stop()
        self._store.seal([*notes, *self._irregular()], complete=not notes)

    def _irregular(self) -> list[str]:
        """What the reader must know of optimizers without a cycle; nothing is missing for that."""
        if self._irregular_from is None:
            return []
        return [
            f"the optimizers take turns irregularly: from training step {self._irregular_from} on, each step of any of "
            "them was taken to end a training step"
        ]

    def _not_recorded(self) -> list[str]:
        """Which steps that were planned could not be recorded, why, and what to do."""
        missing = self._steps.missing
        notes = {why: f"not recorded, {why}: {', '.join(steps)}" for why, steps in missing.items() if steps}
        if Obstacle.OVERFULL in notes:
            notes[Obstacle.OVERFULL] += _OTHER_STEPS
        return list(notes.values())

    def give_up(self, error: Exception) -> None:
        """Leave the script alone after an error of ours; what is on disk stays there, unsealed."""
        self.is_over = True
        self._error = why_stopped(error)
        self._trace = "".join(traceback.format_exception(error))
        if not self._scopes.are_in_optimizer:  # or torch would walk its hooks while they are removed
            self._stop()

    def _stop(self) -> None:
        self.is_over = True
        try:
            self._steps.drop()
        finally:
            self._undo.close()

    def _forked(self) -> None:
        """In a forked child: it is another program, and nothing of it is recorded."""
        self.is_over = True
        if self._steps.recorder is not None:
            torch._C._autograd._enable_record_function(False)  # or its copy of the profiler would collect for ever

    # -- hooks that come and go -------------------------------------------------------------------------------------

    def window_begins(self, recorder: StepRecorder) -> None:
        """The recorder tells of calls; where something is compiled, it hooks no more than models around that."""
        self._listens = True
        self._only_models_tell = False
        self._module_hooks.close()
        if self._compiled.is_used:
            recorder.hook_singly(self._compiled.may_hook)
            for model, _ in self._scene.roots.idle():
                if self._compiled.may_hook(model):
                    entered = SingleHook(self._idle_entered)
                    hook = nn.Module.register_forward_pre_hook(model, entered, with_kwargs=True)
                    self._module_hooks.callback(hook.remove)

    def window_pauses(self) -> None:
        """Nobody else tells of calls: hook all modules again, or, where something is compiled, eager models."""
        self._only_models_tell = False
        self._module_hooks.close()
        if self._compiled.is_used:
            self._hook_models()
        else:
            self._hook_modules()

    def window_ends(self, kind: StepKind) -> None:
        """Hook nothing but what is needed to count steps: optimizers, or models that are run without one."""
        self._listens = self._only_infers = kind is StepKind.INFERENCE
        if self._listens and self._only_models_tell:
            return
        self._only_models_tell = self._listens
        self._module_hooks.close()
        if self._listens:
            self._hook_models()

    def _hook_modules(self) -> None:
        self._depth = 0
        self._module_hooks.callback(register_module_forward_pre_hook(self._module_entered).remove)
        self._module_hooks.callback(register_module_forward_hook(self._module_left, always_call=True).remove)

    def _hook_models(self) -> None:
        """Hook the models that are called from outside, where they are not compiled themselves."""
        self._depth = 0
        for model in self._scene.roots.called():
            self._hook_model(model)

    def _hook_model(self, model: nn.Module) -> None:
        if self._compiled.may_hook(model):
            for handle in hook_module(model, self._module_entered, self._module_left):
                self._module_hooks.callback(handle.remove)

    # -- what is compiled -------------------------------------------------------------------------------------------

    @_harmless
    def compilation_begins(self) -> None:
        """From here on hooks on all modules would change what is compiled."""
        self._steps.rehearse_no_more()
        if self._steps.recorder is not None:
            self.window_begins(self._steps.recorder)
        elif self._listens:
            self._module_hooks.close()
            self._hook_models()

    @_harmless
    def compiled_call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """As a hook of the module's own would tell."""
        if get_ident() == self._thread and self._listens:
            self._find_outermost(module)
            if self._steps.recorder is not None:
                self._steps.recorder.call_begins(module, args, kwargs)
            else:
                self._module_entered(module, args, kwargs)

    @_harmless
    def compiled_call_ended(self, module: nn.Module, output: Any) -> None:
        """As a hook of the module's own would tell."""
        if get_ident() == self._thread and self._listens:
            if self._steps.recorder is not None:
                self._steps.recorder.call_ended(module, output)
            else:
                self._module_left(module, (), output)

    @_harmless
    def compiled_step_begins(
        self, optimizers: Sequence[Optimizer], caller: FrameType, module: nn.Module | None, args: Any, kwargs: Any
    ) -> None:
        """As the hooks of optimizers and of the module would tell."""
        if get_ident() != self._thread:
            return
        self._compiled_depth += 1
        if self._compiled_depth > 1:
            return
        recorder = self._steps.recorder
        self._compiled_step = CompiledStep(optimizers, recorder)
        if module is not None and self._listens:
            self._find_outermost(module)
            self._steps.call_begins(args, kwargs)
        if recorder is not None:
            recorder.compiled_step_begins(caller, runs_module=module is not None)

    @_harmless
    def compiled_step_ended(self, module: nn.Module | None, output: Any) -> None:
        """The optimizers that have stepped, and that no hook told of, are told of now."""
        if get_ident() != self._thread or not self._compiled_depth:
            return
        self._compiled_depth -= 1
        step, recorder = self._compiled_step, self._steps.recorder
        if self._compiled_depth or step is None:
            return
        self._compiled_step = None
        stepped = step.stepped()
        for optimizer in stepped:
            self._before_optimizer(optimizer)
        if recorder is not None and step.began_in(recorder):
            recorder.compiled_step_ended(stepped)
        for optimizer in stepped:
            self._after_optimizer(optimizer)
        if not stepped and module is not None and self._listens:
            self.call_ended(module, output)

    # -- what the hooks tell ----------------------------------------------------------------------------------------

    def _module_entered(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if not is_dynamo_compiling() and self._is_on_own_thread():
            self._depth += 1
            if self._depth == 1:
                self.call_begins(module, args, keywords_of(sys._getframe(1)) if kwargs is None else kwargs)

    def _module_left(self, module: nn.Module, args: Any, output: Any) -> None:
        if not is_dynamo_compiling() and get_ident() == self._thread and self._depth:
            self._depth -= 1
            if not self._depth:
                self.call_ended(module, output)

    @_harmless
    def _idle_entered(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """An eager model runs beside what is compiled, and no other hook would tell."""
        if get_ident() == self._thread and not in_backward():
            self._find(module)
            if self._steps.recorder is not None:
                self._steps.recorder.call_begins(module, args, kwargs)  # its own hook, which is new, tells of the end

    def call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called from outside any other, maybe on another thread, maybe by autograd to recompute."""
        if self._is_on_own_thread() and not in_backward() and not is_tracing():
            self._model_entered(module, (args, kwargs))

    def call_ended(self, module: nn.Module, output: Any) -> None:
        """The call has ended; ``output`` is None after an exception."""
        if get_ident() == self._thread and not in_backward() and not is_tracing():
            self._model_left(module, output)

    def _is_on_own_thread(self) -> bool:
        """Whether a call is on the thread that is watched; of others on threads of the script's own it takes note."""
        if get_ident() == self._thread:
            return True
        self._calls_elsewhere += not in_backward()
        return False

    @_harmless
    def _model_entered(self, module: nn.Module, args: Any) -> None:
        self._find_outermost(module)
        if module in self._scene.roots:
            self._steps.call_begins(*args)
        elif isinstance(module, _Loss):
            self._steps.target_comes(_target(*args))

    @_harmless
    def _model_left(self, module: nn.Module, output: Any) -> None:
        # None: it raised, and torch walks its hooks meanwhile
        if module in self._scene.roots and output is not None:
            self._steps.model_gave(output)
            self._count_forward(module)
        if output is not None and not self._compiled_depth:
            self._steps.call_is_over()

    @_harmless
    def _batch_loaded(self, batch: Any) -> None:
        if get_ident() == self._thread:
            self._steps.inputs_come(batch)

    @_harmless
    def _count_forward(self, module: nn.Module) -> None:
        if torch.is_grad_enabled() or self._scene.optimizers:
            return
        if self._only_infers:  # it was so for a whole window, and to look at all gradients takes time
            self._steps.step_ended(StepKind.INFERENCE)
            return
        before, self._gradients = self._gradients, self._scene.gradients()
        # else a backward pass has been since, of a training whose optimizer is to come
        if self._gradients == before and not self._teachers.teaches(module):
            self._steps.step_ended(StepKind.INFERENCE)

    @_harmless
    def _before_optimizer(self, optimizer: Optimizer, caller: FrameType | None = None) -> None:
        if works_for(self._thread):
            for model in self._scene.add_optimizer(optimizer):
                self._find(model)

    @_harmless
    def _after_optimizer(self, optimizer: Optimizer) -> None:
        if self._compiled_step is not None:
            self._compiled_step.told_of(optimizer)
        if not works_for(self._thread):
            self._steps_elsewhere += 1
            self._cycle.stepped_elsewhere(optimizer)
        elif self._cycle.stepped(optimizer):
            self._training_step_ended()

    def _training_step_ended(self) -> None:
        """By the optimizers' cycle; those that step in hooks of one backward pass end one step together."""
        before, self._ended_in = self._ended_in, backward_pass()
        if self._ended_in is not None and self._ended_in == before:
            return
        if self._cycle.is_irregular and self._irregular_from is None:
            self._irregular_from = self._steps.counts[StepKind.TRAINING]
        self._steps.step_ended(StepKind.TRAINING)

    def _scopes_closed(self) -> None:
        if not self.is_over:
            self.scope_left()
        elif self._error and not self._scopes.are_in_optimizer:
            self._stop()

    @_harmless
    def scope_left(self) -> None:
        """A step that has ended in it can be put on disk, and the next one begin."""
        if works_for(self._thread):
            self._steps.settle()

    @_harmless
    def _other_profiler_starts(self) -> None:
        self._steps.make_way()

    def _find_outermost(self, module: nn.Module) -> None:
        """Find the model that is called; where hooks are few, a part of it may be all that tells."""
        if not self._compiled.is_used:
            self._find(module)
        elif self._scene.roots.lacks(module.parameters()):
            for model in self._scene.roots.owners(module.parameters()):
                self._find(model)
                if self._steps.recorder is None:
                    self._hook_model(model)

    def _find(self, module: nn.Module) -> None:
        prefix = self._scene.roots.add(module)
        if prefix is not None:
            self._steps.found(plain_model(module), prefix)
