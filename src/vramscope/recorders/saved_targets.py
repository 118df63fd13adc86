"""The targets of losses, found in the graph of a backward pass: hooks tell nothing of functions such as
``cross_entropy``."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

_SAVED = "saved_target"
"""What losses call it, and nothing else, in tools/autograd/derivatives.yaml."""
_NEAR = 32
"""How many nodes are looked at: a loss is close to where the pass begins, the rest of the graph is the model's."""


def saved_targets(roots: Iterable[Any]) -> Iterator[Tensor]:
    """What torch's losses near these nodes have saved as their targets, each of them once."""
    waiting = deque(roots)
    seen: set[Any] = set()
    while waiting and len(seen) < _NEAR:
        node = waiting.popleft()
        if node in seen:
            continue
        seen.add(node)
        saved = getattr(node, f"_raw_{_SAVED}", None)
        if saved is None:
            waiting.extend(before for before, _ in node.next_functions if before is not None)
        elif saved.unpack_hook is None:  # else to look at it would run the program's own code
            yield from _unpacked(node)


def _unpacked(node: Any) -> Iterator[Tensor]:
    """The target of a loss, nothing once a backward pass has freed it."""
    try:
        target: Tensor = getattr(node, f"_{_SAVED}")
    except RuntimeError:
        return
    if not target.requires_grad:  # the program is to learn it: it made it
        yield target
