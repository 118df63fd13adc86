"""Hooks that tell a recorder when modules and backward passes begin and end.

Every hook is removed by ``remove()``; none changes a value, keeps a tensor or tells of modules that were not watched,
except to who asks for calls from outside any module.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial, wraps
from inspect import getattr_static
from itertools import chain, count
from threading import get_ident
from types import FrameType
from typing import Any, Protocol
from weakref import ref

import torch
from torch import Tensor, nn
from torch._guards import TracingContext
from torch.autograd.graph import GradientEdge
from torch.compiler import is_compiling, is_dynamo_compiling
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from vramscope.recorders.compiler import pass_over_recorders

_ENGINE = "_engine_run_backward"
"""The name under which torch/autograd/__init__.py calls the engine."""


class ForwardObserver(Protocol):
    """What is told about forwards of watched models, and of their modules where no watched one has called them."""

    def forward_begins(self, is_root: bool, kwargs: Any) -> bool | None:
        """Such a forward begins, on whichever thread; its scope is not open yet. What is returned comes back.

        Args:
            is_root: whether it is a watched model's own.
            kwargs: its arguments by keyword, None where they are not known.
        """

    def forward_ended(self, began: bool | None, output: Any) -> None:
        """The forward that gave ``began`` has ended, and its scope is closed; ``output`` is None after an exception."""


class CallObserver(Protocol):
    """What is told about calls from outside any module, be the module watched or not."""

    def call_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called, and no other module's forward runs on this thread."""

    def call_ended(self, module: nn.Module, output: Any) -> None:
        """The call has ended; ``output`` is None after an exception."""


_Opened = tuple[AbstractContextManager[Any], ForwardObserver | None, bool | None] | None
"""A forward that is open: its scope, who was told of it, what the answer was; None for one not watched."""


def _outermost_callable(model: nn.Module) -> Iterator[nn.Module]:
    """The model, or, where it only holds others as a ModuleList does, the outermost of them that can be called."""
    of_class = getattr_static(type(model), "forward", None)  # TorchScript's cannot be asked otherwise
    if of_class is not nn.Module.forward or "forward" in vars(model):
        yield model
    else:
        for child in model.children():
            yield from _outermost_callable(child)


class SingleHook:
    """A hook on one module. A copy of the module, or a file that it is saved to, gets one that does nothing instead.

    Args:
        function: what is called.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self.__name__ = function.__name__  # which TorchScript asks for

    def __call__(self, *args: Any) -> None:
        """Call the function, unless it is the compiler that calls."""
        if not is_dynamo_compiling():
            self._function(*args)

    def __deepcopy__(self, memo: Any) -> Callable[..., None]:
        return _do_nothing

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (sys.audit, "vramscope.hook")  # nothing that who reads the file would have to have


def _do_nothing(*args: Any) -> None:
    pass


def hook_module(module: nn.Module, before: Callable[..., None], after: Callable[..., None]) -> list[RemovableHandle]:
    """Hooks on one module, around all others that it has.

    By torch's own functions: those of a module of TorchScript only raise, though its hooks are called as any module's.

    Args:
        module: it.
        before: called with the module, its arguments and its keyword arguments.
        after: called with the module, its arguments and its output, None after an exception.
    """
    return [
        nn.Module.register_forward_pre_hook(module, SingleHook(before), prepend=True, with_kwargs=True),
        nn.Module.register_forward_hook(module, SingleHook(after), prepend=True, always_call=True),
    ]


def without_single_hooks(create: Callable[..., Any]) -> Callable[..., Any]:
    """A function of TorchScript's that is given a module, which meanwhile has none of our hooks, nor has one below it.

    TorchScript compiles what it finds, and would refuse ours.
    """

    def create_without(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        all_hooks = [hooks for one in module.modules() for hooks in (one._forward_pre_hooks, one._forward_hooks)]
        hooked = [hooks for hooks in all_hooks if any(isinstance(hook, SingleHook) for hook in hooks.values())]
        before = [dict(hooks) for hooks in hooked]
        try:
            for hooks in hooked:
                for number in [number for number, hook in hooks.items() if isinstance(hook, SingleHook)]:
                    del hooks[number]
            return create(module, *args, **kwargs)
        finally:
            for hooks, had in zip(hooked, before, strict=True):
                now = dict(hooks)
                hooks.clear()  # and not a new one: whoever may take a hook away knows this one
                hooks.update(
                    (number, hook) for number, hook in had.items() if number in now or isinstance(hook, SingleHook)
                )
                hooks.update(now)

    return create_without


class ModuleHooks:
    """Opens a scope around every forward of the watched modules, on whichever thread it runs.

    Every module of a model waits for this, with caches that its kernels have emptied: what it costs is the code and the
    objects that it touches, so it touches few.

    Args:
        opens: makes the scope of a module, given ``prefix`` and the module's path.
        observer: is told of forwards of watched models, and of the outermost of their modules.
        calls: is told of the outermost forwards, watched or not: once the observer has been told, or before, where the
            module is not watched yet, so that it can be in time.
    """

    def __init__(
        self,
        opens: Callable[[str], AbstractContextManager[Any]],
        prefix: str = "",
        observer: ForwardObserver | None = None,
        calls: CallObserver | None = None,
    ) -> None:
        self._opens = opens
        self._prefix = prefix
        self._observer = observer
        self._calls = calls
        # by id, which may come back when a watched module has died: the module, its name, whether it is a model
        self._names: dict[int, tuple[ref[nn.Module], str, bool]] = {}
        self._roots: dict[str, ref[nn.Module]] = {}
        self._opened: dict[int, list[_Opened]] = {}  # thread -> its open forwards
        self._may_hook: Callable[[nn.Module], bool] | None = None
        self.calls_seen = 0
        """Forwards that have begun, watched or not, on all threads."""
        self._handles = [
            register_module_forward_pre_hook(self.before),
            register_module_forward_hook(self.after, always_call=True),
        ]

    def watch(self, model: nn.Module, root: str | None = None) -> str:
        """Report the modules of ``model`` from now on; a module with several paths goes by its first.

        Returns:
            the path of the model itself: ``root`` where given and free, else empty for the first model, and made of the
            class's name for one beside it.
        """
        if root is None or self._is_taken(root, model):
            root = self._free_root(type(model).__name__)
        self._roots[root] = ref(model)
        callable_ones = set(_outermost_callable(model))
        new = [(path, module) for path, module in model.named_modules(prefix=root) if self._known(module) is None]
        for path, module in new:
            self._names[id(module)] = (ref(module), self._prefix + path, module in callable_ones)
        self._hook_singly(module for _, module in new if module in callable_ones)
        return root

    def take_back(self, outer: nn.Module) -> list[tuple[str, nn.Module]]:
        """Forget the watched models that turn out to be parts of another one, and give their paths with them."""
        parts = {id(part) for part in outer.modules() if part is not outer}
        known = [(root, model) for root, weak in self._roots.items() if (model := weak()) is not None]
        inside = [(root, model) for root, model in known if id(model) in parts]
        for root, model in inside:
            del self._roots[root]
            for module in model.modules():
                self._names.pop(id(module), None)
        return inside

    def watch_call(self, part: nn.Module) -> None:
        """Tell of a module inside a watched model as of a model: it is called by itself too."""
        known = self._known(part)
        if known is not None and not known[2]:
            self._names[id(part)] = (*known[:2], True)
            self._hook_singly([part])

    def hook_singly(self, may_hook: Callable[[nn.Module], bool]) -> None:
        """Hook watched models alone from now on, each by itself; forwards that are running are no longer followed.

        Args:
            may_hook: whether a model is to be hooked; asked now and with every further model.
        """
        self._unhook()
        self._opened.clear()
        self._may_hook = may_hook
        known = [module for weak, _, is_root in self._names.values() if is_root and (module := weak()) is not None]
        self._hook_singly(known)

    def _hook_singly(self, models: Iterable[nn.Module]) -> None:
        for module in models:
            if self._may_hook is not None and self._may_hook(module):
                self._handles += hook_module(module, self.before, self.after)

    def _free_root(self, name: str) -> str:
        candidates = chain(("", name), (f"{name}_{number}" for number in count(2)))
        return next(root for root in candidates if not self._is_taken(root, None))

    def _is_taken(self, root: str, model: nn.Module | None) -> bool:
        """Whether a root is another model's, which lives."""
        known = self._roots.get(root, _gone)()
        return known is not None and known is not model

    def remove(self) -> None:
        """Take the hooks away and forget the modules."""
        self._unhook()
        self._names.clear()
        self._opened.clear()

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        """A module's forward begins; torch's hooks for all modules are not handed the keyword arguments."""
        if is_dynamo_compiling():
            return  # a constant to the compiler, which then drops the hook instead of breaking the graph
        self.calls_seen += 1
        opened = self._opened.setdefault(get_ident(), [])
        if not opened and is_compiling():
            return  # exported without hooks; inside an open forward each end needs its beginning
        known = self._known(module)
        tells = self._calls if not opened else None
        if known is None and tells is not None:
            kwargs = keywords_of(sys._getframe(1)) if kwargs is None else kwargs
            tells.call_begins(module, args, kwargs)
            tells, known = None, self._known(module)  # who was told may have watched it
        if known is None:
            opened.append(None)
        else:
            _, name, is_root = known
            observer = self._observer if is_root or not any(opened) else None
            if observer is not None:
                kwargs = keywords_of(sys._getframe(1)) if kwargs is None else kwargs
            began = observer.forward_begins(is_root, kwargs) if observer is not None else None
            scope = self._opens(name)
            scope.__enter__()
            opened.append((scope, observer, began))
        if tells is not None:
            tells.call_begins(module, args, keywords_of(sys._getframe(1)) if kwargs is None else kwargs)

    def _known(self, module: nn.Module) -> tuple[ref[nn.Module], str, bool] | None:
        known = self._names.get(id(module))
        return known if known is not None and known[0]() is module else None

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """It has ended; ``output`` is None after an exception."""
        if is_dynamo_compiling():
            return
        opened = self._opened.get(get_ident())
        if not opened:
            return
        left = opened.pop()
        if left is not None:
            scope, observer, began = left
            scope.__exit__(None, None, None)
            if observer is not None:
                observer.forward_ended(began, output)
        # what was told may have had these hooks removed, and the call ends for who is there now
        if self._calls is not None and not opened and self._opened.get(get_ident()) is opened:
            self._calls.call_ended(module, output)


def keywords_of(frame: FrameType) -> Any:
    """The keyword arguments of a call, from torch's frame that calls a global hook, which is not handed them."""
    return frame.f_locals.get("kwargs")


def _gone() -> None:
    """What a reference to a dead model gives."""


@dataclass(frozen=True)
class BackwardPass:
    """A backward pass that is to run.

    Attributes:
        roots: the nodes of the graph that it begins at.
        first_gradients: those it starts from.
        builds_graph: whether it builds a graph of itself.
        accumulates: whether it adds into ``.grad``.
    """

    roots: Sequence[Any]
    first_gradients: Sequence[Tensor]
    builds_graph: bool
    accumulates: bool


class BackwardHook:
    """Wraps the one function through which ``Tensor.backward`` and ``autograd.grad`` enter the engine.

    Args:
        around: makes a context, given the pass.
    """

    def __init__(self, around: Callable[[BackwardPass], AbstractContextManager[None]]) -> None:
        self._original = getattr(torch.autograd, _ENGINE)
        original = self._original

        @wraps(original)
        def run_backward(t_outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if TracingContext.try_get() is not None:
                return original(t_outputs, *args, **kwargs)  # the compiler differentiates what it traces: nothing runs
            # args: root gradients, whether to keep the graph, whether to build a graph of the backward pass itself
            backward = BackwardPass(
                roots=_nodes(t_outputs),
                first_gradients=[first for first in (args[0] if args else ()) if isinstance(first, Tensor)],
                builds_graph=len(args) > 2 and bool(args[2]),
                accumulates=bool(kwargs.get("accumulate_grad", True)),
            )
            with around(backward):
                return original(t_outputs, *args, **kwargs)

        pass_over_recorders()
        self._installed = run_backward
        setattr(torch.autograd, _ENGINE, run_backward)

    def remove(self) -> None:
        """Put the engine's own function back, unless somebody else has wrapped it since."""
        if getattr(torch.autograd, _ENGINE) is self._installed:
            setattr(torch.autograd, _ENGINE, self._original)


def _nodes(outputs: Iterable[Any]) -> list[Any]:
    """Where the graph of outputs begins, which may be given as edges of it."""
    found = [output.node if isinstance(output, GradientEdge) else output.grad_fn for output in outputs]
    return [node for node in found if node is not None]


class Hooks(Protocol):
    """Hooks of any kind."""

    def remove(self) -> None:
        """Take them away."""


def remove_all(hooks: Iterable[Hooks]) -> None:
    """Remove every hook even if removing one fails."""
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.remove)
