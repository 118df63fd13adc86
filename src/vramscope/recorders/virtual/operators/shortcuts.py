"""Backward formulas that take a long way for tensor subclasses, without a look at the data: the short way of a run.

What is short is decided by zeros in the data. There are taken to be none.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from vramscope.recorders.virtual.formulas import NOWHERE, in_formula, position_of
from vramscope.recorders.virtual.mode import Rule, VirtualMode

aten = torch.ops.aten
_LONG_WAY_OF_PRODUCTS = (aten.ones.default, aten.cat.default, aten.cumprod.default, aten.flip.default)
_LONG_WAY_OF_CUMULATIVE_PRODUCTS = (
    aten.bitwise_and_.Tensor,
    aten.bitwise_not.default,
    aten.cumprod.default,
    aten.cumsum.default,
    aten.div.Tensor,
    aten.eq.Scalar,
    aten.flip.default,
    aten.gather.default,
    aten.logical_and_.default,
    aten.masked_fill.Scalar,
    aten.masked_fill_.Scalar,
    aten.max.dim,
    aten.mul.Tensor,
    aten.ne.Scalar,
    aten.relu_.default,
    aten.scatter_.value,
    aten.sub.Scalar,
    aten.sum.dim_IntList,
    aten.where.self,
    aten.zeros.default,
    aten.zeros_like.default,
)
_LONG_WAY_OF_THE_CHOSEN = (
    aten.div.Tensor,
    aten.eq.Tensor,
    aten.isnan.default,
    aten.logical_and.default,
    aten.mul.Tensor,
    aten.sum.default,
)


@dataclass(frozen=True)
class Use:
    """An operator of the long way, when it is used.

    Attributes:
        mode: that sees it.
        func: the operator.
        args: its arguments by place.
        kwargs: its arguments by name.
        rules: the device's own.
        held: what the short way holds, perhaps until its end.
    """

    mode: VirtualMode
    func: OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    rules: Mapping[OpOverload, Rule]
    held: list[Tensor]

    def run(self) -> Any:
        """Run the operator by the device's own rule."""
        return self.by_rule(self.func, *self.args, **self.kwargs)

    def by_rule(self, func: OpOverload, *args: Any, **kwargs: Any) -> Any:
        """Run another operator by the device's own rule."""
        rule = self.rules.get(func)
        return self.mode.run(func, *args, **kwargs) if rule is None else rule(self.mode, func, args, kwargs)


_NO_ZEROS = "gradients of prod and cumprod: no number is taken to be zero, where they would take a longer way"
Step = Callable[[Use], Any]
Way = Mapping[tuple[OpOverload, int], Step]
"""What an operator of the long way stands for, by operator and how often the node has used it."""


def _looks_for_zeros(use: Use) -> Tensor:
    """Which numbers are zero, [elements], until their indices are found, of which there are none."""
    use.mode.note(_NO_ZEROS)
    numbers: Tensor = use.mode.describe(use.func, *use.args)
    use.held.append(use.mode.run(aten.new_empty.default, numbers, numbers.shape, dtype=torch.bool))
    return numbers


def _knows(use: Use) -> Any:
    """The indices, or the sum, have told that there are none."""
    del use.held[-1:]
    return use.mode.describe(use.func, *use.args)


def _counts_zeros(use: Use) -> Tensor:
    """Which numbers are zero and how many in each row, until the end; and the sum of all."""
    use.mode.note(_NO_ZEROS)
    (_, *dims), numbers = use.args, use.mode.describe(use.func, *use.args)
    mask = use.mode.run(aten.new_empty.default, numbers, numbers.shape, dtype=torch.bool)
    counts = use.by_rule(aten.sum.dim_IntList, mask, dims or [0], True)
    use.held.extend((mask, counts, use.by_rule(aten.sum.default, counts)))
    return numbers  # type: ignore[no-any-return]  # of an operator


def _goes(use: Use) -> Any:
    return use.run()


def _ends(use: Use) -> Any:
    result = use.run()
    use.held.clear()
    return result


def _asks_for_any(use: Use) -> Any:
    """Which numbers are zero, and whether any is."""
    use.mode.note(_NO_ZEROS)
    mask = use.run()
    use.by_rule(aten.any.default, mask)
    return mask


def _is_the_gradient(use: Use) -> Any:
    quotient = use.run()
    use.held.append(quotient)
    return quotient


def _returns_the_gradient(use: Use) -> Any:
    return use.held.pop() if use.held else use.run()


def _asks_for_nan(use: Use) -> Any:
    """Whether what was chosen is a number."""
    use.held.append(use.run())
    return use.mode.describe(use.func, *use.args)


def _begins_the_gradient(use: Use) -> Any:
    """Which numbers were chosen, then zeros of the gradient's shape, which get their share in place."""
    mask = use.run()
    use.held.clear()
    use.held.append(use.mode.run(aten.new_zeros.default, use.args[0], use.args[0].shape))
    return mask


WAYS: Mapping[str, Way] = {
    # prod_backward: grad * (result / input)
    "ProdBackward0": {
        (aten.cat.default, 1): _looks_for_zeros,
        (aten.cumprod.default, 1): _knows,
        (aten.mul.Tensor, 1): _goes,
        (aten.mul.Tensor, 2): _goes,
    },
    "ProdBackward1": {
        (aten.cat.default, 1): _counts_zeros,
        (aten.cumprod.default, 1): _knows,
        (aten.mul.Tensor, 1): _goes,
        (aten.mul.Tensor, 2): _ends,
    },
    # cumprod_backward: reversed_cumsum(grad * output) / input
    "CumprodBackward0": {
        (aten.mul.Tensor, 1): _goes,
        (aten.eq.Scalar, 1): _asks_for_any,
        (aten.flip.default, 1): _goes,
        (aten.cumsum.default, 2): _goes,
        (aten.flip.default, 2): _goes,
        (aten.div.Tensor, 1): _is_the_gradient,
        (aten.where.self, 2): _returns_the_gradient,
    },
    # differential_analytic_matrix_function: one block of two by two matrices, which a run fills part by part
    "LinalgMatrixExpBackward0": {(aten.cat.default, 3): _goes},
}
"""By node, from torch/csrc/autograd/FunctionsManual.cpp: the first operator of the long way to the last."""


_OF_THE_CHOSEN: Way = {
    (aten.isnan.default, 2): _asks_for_nan,
    (aten.eq.Tensor, 1): _begins_the_gradient,
    (aten.sum.default, 1): _goes,
    (aten.div.Tensor, 1): _goes,
    (aten.mul.Tensor, 1): _returns_the_gradient,
}
CPU_WAYS: Mapping[str, Way] = dict.fromkeys(
    ("MaxBackward1", "MinBackward1", "MedianBackward0", "NanmedianBackward0"), _OF_THE_CHOSEN
)
"""``evenly_distribute_backward`` there, which takes the long way on a GPU: zeros.masked_fill_(input == value, grad)."""


_LONG_WAYS = {
    **dict.fromkeys(("ProdBackward0", "ProdBackward1"), _LONG_WAY_OF_PRODUCTS),
    "CumprodBackward0": _LONG_WAY_OF_CUMULATIVE_PRODUCTS,
    "LinalgMatrixExpBackward0": (aten.cat.default, aten.zeros_like.default),
    **dict.fromkeys(CPU_WAYS, _LONG_WAY_OF_THE_CHOSEN),
}
"""By node, the operators of its long way."""


def with_shortcuts(rules: Mapping[OpOverload, Rule], ways: Mapping[str, Way] = WAYS) -> Mapping[OpOverload, Rule]:
    """The rules of a device, and on top of them those for formulas that go another way there, by node."""
    listed = {operator for node in ways for operator in _LONG_WAYS[node]}
    return {**rules, **dict.fromkeys(listed, _Formulas(rules, ways).rule)}


class _Formulas:
    """Follows the formula of the node that the engine is at."""

    def __init__(self, rules: Mapping[OpOverload, Rule], ways: Mapping[str, Way]) -> None:
        self._rules, self._ways = rules, ways
        self._node = NOWHERE
        self._used: Counter[OpOverload] = Counter()
        self._held: list[Tensor] = []

    def rule(self, mode: VirtualMode, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """An operator by the device's own rule, or a step of a formula, of which the long way leaves no trace."""
        way = self._way()
        use = Use(mode, func, args, kwargs, self._rules, self._held)
        if way is None:
            return use.run()
        self._used[func] += 1
        step = way.get((func, self._used[func]))
        return mode.describe(func, *args, **kwargs) if step is None else step(use)

    def _way(self) -> Way | None:
        node = torch._C._current_autograd_node()
        way = None if node is None or torch.is_grad_enabled() else self._ways.get(node.name())
        if node is None or way is None or not in_formula():
            return None
        key = position_of(node)
        if key != self._node:
            self._node, self._used, self._held = key, Counter(), []
        return way
