"""What a script compiles, and when that is called: told from outside, where the compiler does not look.

A hook on a module that is compiled would be compiled with it, and one that comes or goes makes torch compile again. So
no module is hooked but models around compiled ones, and only as long as it is certain what else is compiled.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import wraps
from types import FrameType, FunctionType, MethodType
from typing import Any, Protocol
from weakref import ReferenceType, WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from vramscope.recorders.compiler import pass_over_recorders, tells_of_compiler
from vramscope.recorders.hooks import hook_module
from vramscope.recorders.scripts.reach import reach_of
from vramscope.recorders.scripts.roots import plain_model
from vramscope.recorders.scripts.surroundings import replace_attribute

_FORWARD = "forward"
"""A module whose ``forward`` alone is compiled is called from outside, and may have hooks."""
_MIND_HOOKS = (nn.TransformerEncoderLayer, nn.MultiheadAttention)
"""They run another way where they, or what they hold, have hooks (torch/nn/modules/transformer.py)."""
_CALLS = ("_call_impl", "_wrapped_call_impl")
"""What torch calls a module's own call: ``Module.compile()`` compiles the first, ``model.__call__`` is the other."""


class CompilationObserver(Protocol):
    """Who is told of what is compiled."""

    def compilation_begins(self) -> None:
        """Something is compiled from here on, and `Compiled.may_hook` allows less."""

    def compiled_call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module's compiled form is called, or a compiled function that runs the module."""

    def compiled_call_ended(self, module: nn.Module, output: Any) -> None:
        """The call has ended; ``output`` is None after an exception."""

    def compiled_step_begins(
        self, optimizers: Sequence[Optimizer], caller: FrameType, module: nn.Module | None, args: Any, kwargs: Any
    ) -> None:
        """A compiled function is called that may step optimizers, and run a module before; no hook may tell of it.

        ``caller`` is the frame that runs for as long as the function.
        """

    def compiled_step_ended(self, module: nn.Module | None, output: Any) -> None:
        """The call has ended; ``output`` is None after an exception."""


class Compiled:
    """Notices ``torch.compile`` and calls of the functions that it gives back.

    Args:
        undo: ends it; functions that the script has keep their wrappers, which then only pass on.
        observer: is told.
    """

    def __init__(self, undo: ExitStack, observer: CompilationObserver) -> None:
        self._observer = observer
        self._is_over = False
        self._traced: WeakSet[nn.Module] = WeakSet()
        self._given_back: list[tuple[ReferenceType[nn.Module], Sequence[RemovableHandle]]] = []
        self.is_used = False
        """Whether anything was compiled."""
        self._only_modules = True  # of other functions than a module's it is not certain what they run
        pass_over_recorders()
        replace_attribute(undo, torch, "compile", self._compiling)
        undo.callback(self._end)

    def _end(self) -> None:
        self._is_over = True
        self._unhook(self._given_back)

    @staticmethod
    def _unhook(given_back: Iterable[tuple[object, Sequence[RemovableHandle]]]) -> None:
        for _, handles in given_back:
            for handle in handles:
                handle.remove()

    def may_hook(self, module: nn.Module) -> bool:
        """Whether a module is certain to be called from outside of all that is compiled, and minds no hook."""
        return self._only_modules and module not in self._traced and not isinstance(module, _MIND_HOOKS)

    # -- what is compiled -------------------------------------------------------------------------------------------

    def _compiling(self, original: Any) -> Any:
        def compile(*args: Any, **kwargs: Any) -> Any:
            given = args[0] if args else kwargs.get("model")
            # a decorator comes back with what it decorates
            if given is None or kwargs.get("disable"):
                return original(*args, **kwargs)
            function = _Function()
            if self._guarded(lambda: function.is_of_module(given)):
                self._guarded(lambda: self._begins(function))
            made = original(*args, **kwargs)
            if issubclass(type(made), nn.Module):
                self._hook(made)
            elif type(made) is FunctionType and made is not given:
                return self._wrapped(made, function)
            return made

        return compile

    def _guarded(self, look: Callable[[], Any]) -> Any:
        """What looking at objects of the program gives; they may raise anything, and it must not meet that."""
        try:
            return look()
        except Exception:  # noqa: BLE001 - as above
            self._only_modules, self.is_used = False, True
            self._observer.compilation_begins()
            return None

    def _begins(self, function: "_Function") -> None:
        """It is compiled from here on: when ``torch.compile`` is given a module, else when it is called first."""
        self._only_modules &= function.runs_only_heads
        self._traced.update(inner for head in function.heads for inner in head.modules())
        if function.is_forward:
            self._traced.difference_update(function.heads)
        alive = [(model, entry) for entry in self._given_back if (model := entry[0]()) is not None]
        self._unhook(entry for model, entry in alive if model in self._traced)  # called from inside from now on
        self._given_back = [entry for model, entry in alive if model not in self._traced]
        self.is_used = True
        self._observer.compilation_begins()

    # -- what is called ---------------------------------------------------------------------------------------------

    def _hook(self, model: nn.Module) -> None:
        """Tell of calls of a model that ``torch.compile`` gave back: an eager module around the compiled one."""
        module = ref(plain_model(model))

        def begins(model: nn.Module, args: Any, kwargs: Any) -> None:
            if (run := module()) is not None:
                self._observer.compiled_call_begins(run, args, kwargs)

        def ended(model: nn.Module, args: Any, output: Any) -> None:
            if (run := module()) is not None:
                self._observer.compiled_call_ended(run, output)

        self._given_back.append((ref(model), hook_module(model, begins, ended)))

    def _wrapped(self, made: Callable[..., Any], function: "_Function") -> Callable[..., Any]:
        """The compiled function, and a word before and after it; to the compiler it is the function itself."""
        under_compiler = tells_of_compiler()
        if under_compiler is None:
            return made

        @wraps(made)
        def called(*args: Any, **kwargs: Any) -> Any:
            if self._is_over or under_compiler():
                return made(*args, **kwargs)
            module = self._guarded(lambda: self._module_of(function, args, kwargs))
            optimizers = function.optimizers
            if not optimizers and module is None:
                return made(*args, **kwargs)
            output = None
            if optimizers:
                self._observer.compiled_step_begins(optimizers, sys._getframe(), module, args, kwargs)
            elif module is not None:
                self._observer.compiled_call_begins(module, args, kwargs)
            try:
                output = made(*args, **kwargs)
                return output
            finally:
                if optimizers:
                    self._observer.compiled_step_ended(module, output)
                elif module is not None:
                    self._observer.compiled_call_ended(module, output)

        called.__wrapped__ = getattr(made, "__wrapped__", made)
        called._torchdynamo_wrapper_id = id(called)  # type: ignore[attr-defined]  # by which torch knows its own wrappers
        return called

    def _module_of(self, function: "_Function", args: Any, kwargs: Any) -> nn.Module | None:
        """The module that a call runs, None where it runs none."""
        if function.meets_new(args, kwargs):
            self._begins(function)
        return function.module(args, kwargs)


class CompiledStep:
    """A call of a compiled function that may step optimizers: it is told by their parameters whether it has.

    Args:
        optimizers: those.
        recorder: what is recording when it begins.
    """

    def __init__(self, optimizers: Sequence[Optimizer], recorder: object) -> None:
        self._recorder = recorder
        self._before = [(optimizer, _changes(optimizer)) for optimizer in optimizers]

    def began_in(self, recorder: object) -> bool:
        """Whether the same recorder was at work when it began."""
        return self._recorder is recorder

    def told_of(self, optimizer: Optimizer) -> None:
        """A hook has told of this one, which needs no more."""
        self._before = [(other, changes) for other, changes in self._before if other is not optimizer]

    def stepped(self) -> list[Optimizer]:
        """Those that have changed their parameters and their state, if they have any, and that no hook told of."""
        found = []
        for optimizer, (written, states) in self._before:
            now_written, now_states = _changes(optimizer)
            if now_written != written and (now_states != states or not now_states):
                found.append(optimizer)
        return found


def _changes(optimizer: Optimizer) -> tuple[int, tuple[int, int] | None]:
    """How often an optimizer's parameters have been written so far, and of its state how many tensors how often."""
    written = sum(parameter._version for group in optimizer.param_groups for parameter in group["params"])
    states = [held._version for state in optimizer.state.values() for held in state.values() if type(held) is Tensor]
    return written, (len(states), sum(states)) if states else None


class _Function:
    """Something that is compiled: the modules it runs and the optimizers it may step, as far as can be told."""

    def __init__(self) -> None:
        self.is_forward = False
        """Whether it is the ``forward`` of its heads, which are themselves called from outside then."""
        self.runs_only_heads = False
        """Whether it runs no modules but its heads and what they hold."""
        self._given: Any = None
        self._has_begun = False
        self._optimizers: list[ReferenceType[Optimizer]] = []
        self._heads: WeakKeyDictionary[nn.Module, None] = WeakKeyDictionary()

    def is_of_module(self, given: Any) -> bool:
        """Take note of what is compiled; whether that is a module, or a method of one that runs nothing else."""
        owner = given.__self__ if type(given) is MethodType else given
        name = getattr(given, "__name__", "") if type(given) in (MethodType, FunctionType) else ""
        self.is_forward = name == _FORWARD and _is_method(given)
        if isinstance(owner, nn.Module):
            self._heads[owner] = None
            self.runs_only_heads = self._has_begun = owner is given or self.is_forward or name in _CALLS
            return self._has_begun
        self.runs_only_heads = self.is_forward
        if not self.is_forward:
            self._given = given
            self._look_into(given)
        return False

    @property
    def heads(self) -> list[nn.Module]:
        """The modules that are known to be in it and alive."""
        return list(self._heads)

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that a call may step."""
        return [optimizer for weak in self._optimizers if (optimizer := weak()) is not None]

    def meets_new(self, args: Any, kwargs: Any) -> bool:
        """Whether a call may compile a module, or may do so for the first time where it is never certain which."""
        if self.is_forward and args and isinstance(args[0], nn.Module):
            is_new = args[0] not in self._heads
            self._heads[args[0]] = None
            return is_new
        if self._has_begun:
            return False
        given, self._given = self._given, None  # what it names may be there only now
        is_complete = self._look_into((given, args, kwargs))
        self._has_begun = bool(self._heads) or not is_complete
        return self._has_begun

    def module(self, args: Any, kwargs: Any) -> nn.Module | None:
        """The module that a call runs: one that it is given, or the function's own; None where there is none."""
        given = [item for item in (*args, *kwargs.values()) if issubclass(type(item), nn.Module)]
        return next((head for head in (*given, *self.heads) if next(head.parameters(), None) is not None), None)

    def _look_into(self, item: Any) -> bool:
        """Take note of what it reaches; whether that is all."""
        found = reach_of(item)
        self._heads.update(dict.fromkeys(found.modules))
        self._optimizers += [ref(one) for one in found.optimizers if one not in self.optimizers]
        return found.is_complete


def _is_method(given: Any) -> bool:
    """Whether a function was defined in a class, by its name."""
    owner = getattr(given, "__qualname__", "").rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")
