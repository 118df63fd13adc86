"""Views that were written to in place: autograd then reaches them from their base in one step, fakes in several.

After ``y = x.view(...); y.relu_()`` the view's history is made anew. For tensors with memory that is one node,
``AsStridedBackward0``, whose backward takes a block as large as the base and puts the view's gradient into it
(``as_strided_backward`` in torch/csrc/autograd/FunctionsManual.cpp). For tensor subclasses, as fakes are, the view's
own operators are called again on the base (``VariableHooks::grad_fn`` in torch/csrc/autograd/variable.cpp), and
backward runs their nodes.
"""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import make_contiguous_strides_for
from torch.autograd.graph import Node
from torch.multiprocessing.reductions import StorageWeakRef

from vramscope.recorders.virtual.formulas import calling_frame, in_formula

if TYPE_CHECKING:
    from vramscope.recorders.virtual.mode import VirtualMode

aten = torch.ops.aten
_ADD = aten.add.Tensor
_DETACH = aten.detach.default
"""How autograd saves an operator's result; no part of a view's history."""
_MAKE_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Alias")
_VIEW_NODES = tuple(f"{operator}Backward" for operator in _MAKE_VIEWS)
"""How the names of nodes begin that give a view of the gradient."""
_ACCUMULATES = "torch::autograd::AccumulateGrad"
Site = tuple[int, int]
Gradients = tuple[Any, ...]


@dataclass
class RebasedView:
    """A view whose history was made anew, by the geometry of its base."""

    shape: torch.Size
    strides: tuple[int, ...]
    block: StorageWeakRef | None = None
    """The block of the gradient that was made last."""

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in the block."""
        return self.block is not None and self.block == _storage(tensor)

    @property
    def elements(self) -> int:
        """From the first element of the base to the last (``_min_storage_size`` in FunctionsManual.cpp)."""
        if not self.shape.numel():
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True)
class _Call:
    """A call that may make histories anew: from where, and the number of the first node that would be of one."""

    site: Site
    first_node: int
    written: weakref.ref[Tensor] | None = None
    """The view that it has written to; without one it begins with a view of a base."""


class RebasedViews:
    """Recognises the nodes that stand for one step, and has all that they make lie in one block."""

    def __init__(self, mode: "VirtualMode") -> None:
        self._mode = mode
        self._call: _Call | None = None
        self._newest = -1
        """The newest node when an operator was called before: one that is newer was made by the call itself."""
        self._site: Site | None = None
        self._fresh: set[int] = set()
        """The views made from that site, by their identity; those of which a call makes histories are older."""
        self._bases: set[int] = set()
        """Of what the call has made views, by their identity."""
        self._nodes: dict[int, RebasedView] = {}

    def called(self, func: OpOverload, args: tuple[Any, ...]) -> None:
        """An operator is called: one that writes to a view, makes a view's history anew, or takes such a view."""
        call, newest = self._call, _newest_node()
        if not torch.is_grad_enabled() or func is _DETACH:
            return
        if call is not None and _site() != call.site:
            written = None if call.written is None else call.written()
            if written is not None:
                self._take_note(written, call.first_node)
            self._call = call = None
        elif call is not None and call.written is None:
            for tensor in _tensors(args):
                if tensor._is_view() and id(tensor._base) in self._bases and id(tensor) not in self._fresh:
                    self._take_note(tensor, call.first_node)
        given = args[0] if args and isinstance(args[0], Tensor) else None
        if given is not None and func._schema.is_mutable and given._is_view():
            before = None if call is None or call.written is None else call.written()
            if call is not None and before is not None and before is not given:  # a loop over several views
                self._take_note(before, call.first_node)
            self._call = _Call(_site(), newest + 2, weakref.ref(given))  # the next node is of the base's new history
        elif given is not None and func.is_view and not given._is_view() and newest > self._newest:
            self._begins_at(given, newest)
        self._newest = newest

    def _begins_at(self, base: Tensor, newest: int) -> None:
        """A view of a base is made, and a node for it: perhaps the first of the history of an older view."""
        if self._call is None:
            self._call, self._bases = _Call(_site(), newest), set()
        self._bases.add(id(base))

    def made(self, func: OpOverload, result: Any) -> None:
        """An operator has given views, which are part of a history, or the call's own."""
        if not func.is_view:
            return
        site = _site()
        if site != self._site:
            self._site, self._fresh = site, set()
        self._fresh |= {id(view) for view in (result if isinstance(result, list | tuple) else (result,))}

    def _take_note(self, tensor: Tensor, first_node: int) -> None:
        """A view's history, if it was made anew by nodes that begin with this one."""
        base, nodes = tensor._base, list(_history(tensor, first_node))
        if base is None or base.layout is not torch.strided or not nodes or not _follows(nodes[-1], base):
            return
        if _number(nodes[0]) in self._nodes:  # an operator that takes a view twice
            return
        view = RebasedView(base.shape, base.stride())
        self._nodes |= {_number(node): view for node in nodes}
        if all(node.name().startswith(_VIEW_NODES) for node in nodes):
            nodes[0].register_prehook(partial(self._put_first, view))

    def _put_first(self, view: RebasedView, gradients: Gradients) -> Gradients:
        """The view's gradient in a block of its own, where none of the nodes makes one."""
        gradient = gradients[0]
        if not isinstance(gradient, Tensor) or gradient.numel() > view.elements:
            return gradients
        block = self._block(view, gradient)
        strides = make_contiguous_strides_for(gradient.shape)
        return (self._mode.describe(aten.as_strided.default, block, gradient.shape, strides, 0),)

    def run(self, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What a node of a view's history makes lies in the block that the first of them takes."""
        view, mode, given = self._nodes[_running_node()], self._mode, args[0]
        if func is _ADD:
            return mode.run(func, *args, **kwargs)
        result = mode.describe(func, *args, **kwargs)
        if not isinstance(result, Tensor) or result.numel() > view.elements or _share_memory(result, given):
            mode.memory.see(result)
            return result
        if not view.holds(given):
            given = self._block(view, given)
        strides = view.strides if result.shape == view.shape else result.stride()
        return mode.describe(aten.as_strided.default, given, result.shape, strides, 0)

    def _block(self, view: RebasedView, like: Tensor) -> Tensor:
        block: Tensor = self._mode.run(aten.new_empty.default, like, [view.elements])
        view.block = _storage(block)
        return block

    def are_at_work(self, func: OpOverload, args: tuple[Any, ...]) -> bool:
        """Whether a node of such a view's history runs, and calls an operator with a gradient.

        Gradients that flow together are added while the node before is still the one that runs; only to such a block
        nothing is added in place, for what the node has given is a view of it.
        """
        if not self._nodes or not args or not isinstance(args[0], Tensor):
            return False
        view = self._nodes.get(_running_node())
        if view is None or not in_formula():
            return False
        return func is not _ADD or any(other.holds(args[0]) for other in self._nodes.values())


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among an operator's arguments, those in lists too."""
    flat = chain.from_iterable(part if isinstance(part, list | tuple) else (part,) for part in args)
    return [part for part in flat if isinstance(part, Tensor)]


def _history(tensor: Tensor, first_node: int) -> Iterator[Node]:
    """The nodes of a view's history from a certain one on, the newest first."""
    node = tensor.grad_fn
    while node is not None and _number(node) >= first_node and node.name() != _ACCUMULATES:
        yield node
        node = node.next_functions[0][0] if node.next_functions else None


def _follows(node: Node, base: Tensor) -> bool:
    """Whether a view's history goes on with that of its base."""
    before = node.next_functions[0][0] if node.next_functions else None
    return base.grad_fn is not None and _number(before) == _number(base.grad_fn)


def _number(node: Node | None) -> int:
    return -1 if node is None else int(node._sequence_nr())


def _newest_node() -> int:
    return int(torch.autograd._get_sequence_nr()) - 1  # type: ignore[attr-defined]  # not in torch's stubs


def _running_node() -> int:
    return _number(torch._C._current_autograd_node())


def _storage(tensor: Tensor) -> StorageWeakRef:
    """What is equal for tensors in the same memory, and for no later one, as the reference keeps the place."""
    return StorageWeakRef(tensor.untyped_storage())


def _share_memory(first: Tensor, second: Any) -> bool:
    return isinstance(second, Tensor) and _storage(first) == _storage(second)


def _site() -> Site:
    frame = calling_frame()
    return id(frame), frame.f_lasti
