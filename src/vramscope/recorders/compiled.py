"""What a script compiles, and when that is called: told from outside, where the compiler does not look.

A hook on a module that is compiled would be compiled with it, and one that comes or goes makes torch compile again. So
what holds modules and is compiled is taken note of: nothing inside it may be hooked.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack
from functools import wraps
from types import FunctionType, MethodType
from typing import Any, Protocol
from weakref import ReferenceType, WeakSet, ref

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from vramscope.recorders.hooks import hook_module
from vramscope.recorders.reach import reach_of
from vramscope.recorders.roots import plain_model
from vramscope.recorders.surroundings import replace_attribute

_FORWARD = "forward"
"""A module whose ``forward`` alone is compiled is called from outside, and may have hooks."""


class CompilationObserver(Protocol):
    """Who is told of what is compiled."""

    def compilation_begins(self) -> None:
        """Something that holds modules is compiled from here on: `Compiled.traced` has grown."""

    def compiled_call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module's compiled form is called, or a compiled function that runs the module."""

    def compiled_call_ended(self, module: nn.Module, output: Any) -> None:
        """The call has ended; ``output`` is None after an exception."""

    def compiled_step_begins(
        self, optimizers: Sequence[Optimizer], module: nn.Module | None, args: Any, kwargs: Any
    ) -> None:
        """A compiled function is called that may step optimizers, and run a module before; no hook may tell of it."""

    def compiled_step_ended(self) -> None:
        """The call has ended."""


class Compiled:
    """Notices ``torch.compile`` and calls of the functions that it gives back.

    Args:
        undo: ends it; functions that the script has keep their wrappers, which then only pass on.
        observer: is told.
    """

    def __init__(self, undo: ExitStack, observer: CompilationObserver) -> None:
        self._observer = observer
        self._is_over = False
        self._heads: WeakSet[nn.Module] = WeakSet()
        self._only_below: WeakSet[nn.Module] = WeakSet()
        self._given_back: list[tuple[ReferenceType[nn.Module], Sequence[RemovableHandle]]] = []
        self.is_used = False
        """Whether anything that holds modules, or may do so, was compiled."""
        self._is_known = True  # of everything compiled, which modules it holds
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

    def traced(self) -> Container[int]:
        """The ids of the modules that no hook may be on."""
        if not self._is_known:
            return _Everything()
        below = {id(inner) for head in list(self._only_below) for inner in head.modules() if inner is not head}
        return below | {id(inner) for head in list(self._heads) for inner in head.modules()}

    # -- what is compiled -------------------------------------------------------------------------------------------

    def _compiling(self, original: Any) -> Any:
        def compile(*args: Any, **kwargs: Any) -> Any:
            given = args[0] if args else kwargs.get("model")
            if given is None:  # a decorator, which comes back with what it decorates
                return original(*args, **kwargs)
            call = self._call(given)
            made = original(*args, **kwargs)
            if isinstance(made, nn.Module):
                self._hook(made)
            elif isinstance(made, FunctionType) and call.is_known:
                return self._wrapped(made, call)
            return made

        return compile

    def _call(self, given: Any) -> "_Call":
        call = _Call()
        try:
            call.look_at(given)
            self._begins(call)
        except Exception:  # noqa: BLE001 - objects of the program may raise anything, and it must not meet that
            call.is_known = self._is_known = False
            self.is_used = True
            self._observer.compilation_begins()
        return call

    def _begins(self, call: "_Call") -> None:
        noted = self._only_below if call.is_forward else self._heads
        new = [head for head in call.heads if head not in noted]
        if new or not call.is_known:
            noted.update(new)
            self.is_used = True
            self._is_known &= call.is_known
            self._unhook_traced()
            self._observer.compilation_begins()

    def _unhook_traced(self) -> None:
        """A compiled model that is a part of what is compiled now is called from inside from now on."""
        if self._is_known:
            traced = self.traced()
            self._unhook(entry for entry in self._given_back if (model := entry[0]()) is None or id(model) in traced)

    # -- what is called ---------------------------------------------------------------------------------------------

    def _hook(self, model: nn.Module) -> None:
        """Tell of calls of a model that ``torch.compile`` gave back: an eager module around the compiled one."""
        module = ref(plain_model(model))

        def begins(model: nn.Module, args: Any, kwargs: Any) -> None:
            if not is_dynamo_compiling() and (run := module()) is not None:
                self._observer.compiled_call_begins(run, args, kwargs)

        def ended(model: nn.Module, args: Any, output: Any) -> None:
            if not is_dynamo_compiling() and (run := module()) is not None:
                self._observer.compiled_call_ended(run, output)

        self._given_back.append((ref(model), hook_module(model, begins, ended)))

    def _wrapped(self, made: Callable[..., Any], call: "_Call") -> Callable[..., Any]:
        """The compiled function, and a word before and after it; to the compiler it is the function itself."""
        under_compiler = _nested_call()
        if under_compiler is None:
            return made

        @wraps(made)
        def called(*args: Any, **kwargs: Any) -> Any:
            if self._is_over or under_compiler():
                return made(*args, **kwargs)
            module = self._module_of(call, args, kwargs)
            optimizers = call.optimizers
            if optimizers:
                self._observer.compiled_step_begins(optimizers, module, args, kwargs)
                try:
                    return made(*args, **kwargs)
                finally:
                    self._observer.compiled_step_ended()
            if module is None:
                return made(*args, **kwargs)
            self._observer.compiled_call_begins(module, args, kwargs)
            output = None
            try:
                output = made(*args, **kwargs)
                return output
            finally:
                self._observer.compiled_call_ended(module, output)

        called._torchdynamo_wrapper_id = id(called)  # type: ignore[attr-defined]  # by which torch knows its own wrappers
        _leave_to_python(called)
        return called

    def _module_of(self, call: "_Call", args: Any, kwargs: Any) -> nn.Module | None:
        """The module that a call runs: the function's own, or one that it is given."""
        try:
            if call.looks_at(args, kwargs):
                self._begins(call)
            return call.module(args)
        except Exception:  # noqa: BLE001 - as above
            return None


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
        """Those that have changed their parameters, and that no hook told of."""
        return [optimizer for optimizer, changes in self._before if _changes(optimizer) != changes]


def _changes(optimizer: Optimizer) -> int:
    """How often the parameters of an optimizer have been written so far."""
    return sum(parameter._version for group in optimizer.param_groups for parameter in group["params"])


class _Everything:
    """Holds whatever is looked for."""

    def __contains__(self, item: object) -> bool:
        return True


class _Call:
    """Something callable that is compiled, and the modules it runs."""

    def __init__(self) -> None:
        self.is_known = True
        self.is_forward = False
        self._optimizers: list[ReferenceType[Optimizer]] = []
        self._was_called = False
        self._heads: list[ReferenceType[nn.Module]] = []

    def look_at(self, given: Any) -> None:
        """Take note of what it holds."""
        self.is_forward = _is_forward(given)
        if isinstance(given, nn.Module):
            self._add(given)
        elif isinstance(given, MethodType) and isinstance(given.__self__, nn.Module):
            self._add(given.__self__)
        elif isinstance(given, type):  # of which all instances are compiled
            self.is_known = False
        else:
            self._look_into(given)

    @property
    def heads(self) -> list[nn.Module]:
        """The modules that are known to be in it and alive."""
        return [head for weak in self._heads if (head := weak()) is not None]

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that a call may step."""
        return [optimizer for weak in self._optimizers if (optimizer := weak()) is not None]

    def looks_at(self, args: Any, kwargs: Any) -> bool:
        """Look for modules among what it is called with; whether there may be new ones.

        Everything is looked at when it is called first, which is when it is compiled; later only what a method is of.
        """
        known = len(self._heads), self.is_known
        if not self._was_called:
            self._was_called = True
            if not (args and isinstance(args[0], nn.Module)):
                self._look_into((args, kwargs))
        if args and isinstance(args[0], nn.Module):
            self._add(args[0])
        return known != (len(self._heads), self.is_known)

    def module(self, args: Any) -> nn.Module | None:
        """The one that a call runs, None where it runs none."""
        if args and isinstance(args[0], nn.Module):
            return args[0]
        return next((head for head in self.heads if next(head.parameters(), None) is not None), None)

    def _look_into(self, item: Any) -> None:
        found = reach_of(item)
        for module in found.modules:
            self._add(module)
        self._optimizers += map(ref, found.optimizers)
        self.is_known &= found.is_known

    def _add(self, module: nn.Module) -> None:
        if all(weak() is not module for weak in self._heads):
            self._heads.append(ref(module))


def _is_forward(given: Any) -> bool:
    """Whether it is the ``forward`` of a module, which is called from the module's own call."""
    owner, _, name = getattr(given, "__qualname__", "").rpartition(".")
    return name == _FORWARD and bool(owner) and not owner.endswith("<locals>")


def _nested_call() -> Callable[[], bool] | None:
    """Tells whether the compiler is at work on who calls; None where this torch does not tell."""
    try:
        from torch._C._dynamo.eval_frame import get_eval_frame_callback
    except ImportError:
        return None
    return lambda: get_eval_frame_callback() is not None


def _leave_to_python(function: Any) -> None:
    """Have the compiler pass over a function's own frame, where its callers are compiled in pieces."""
    from torch._dynamo.eval_frame import skip_code  # loaded already: something was compiled

    skip_code(function.__code__)
