"""What every scope inherits from its ancestors: operator, autograd node, module, Python line.

All columns have one place more than there are scopes; the last one stands for "no scope", so that index -1 reads it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vramscope.recording.recording import LOSS_SCOPE, NO_SCOPE, UNKNOWN, Integers, Recording, ScopeKind

Flags = npt.NDArray[np.bool_]
_ACCUMULATE = "AccumulateGrad"
_RUNS_MODULES = "CheckpointFunction"
"""torch's reentrant checkpoint is recorded like an operator, but what runs in it is the model's own forward."""
_OPTIMIZER_STEP = "Optimizer.step#"  # torch/optim/optimizer.py, profile_hook_step
_COLLECTIVES = ("c10d::", "nccl:", "gloo:", "fsdp::", "FSDP::", "_c10d_functional::")


@dataclass(frozen=True)
class Lineage:
    """Columns by scope; values are scope rows, -1 where there is none."""

    operator: Integers
    """Outermost operator below the nearest module or autograd node: what the program called."""
    node: Integers
    """Nearest autograd node: the scope is part of a backward pass."""
    module: Integers
    """String number of the path of the module whose computation this is; for a backward node, its forward
    operator's."""
    has_module: Flags
    """Whether this is a model's forward: inside a module, the loss, or torch's reentrant checkpoint."""
    recomputing_module: Flags
    """Inside a module's forward that runs inside a backward node."""
    recomputing_operator: Flags
    """Inside an operator that ran with gradients enabled inside a backward node."""
    in_accumulation: Flags
    """The nearest node accumulates into a parameter's gradient."""
    communication: Flags
    """Inside a collective."""
    in_backward: Flags
    """Part of a backward pass and not of an optimizer step that runs inside one."""
    optimizer_step: Flags
    """Inside the scope that torch opens around every optimizer's step, and not of a backward pass inside one."""
    made_node: Flags
    """Inside a forward operator whose backward node ran: it was part of a forward pass, whatever was announced."""
    compiled: Flags
    """Inside a compiled graph."""
    frame: Integers
    """Nearest Python line."""
    graph: Integers
    """Nearest compiled graph: what a compiler made of part of the model."""


def trace_lineage(recording: Recording) -> Lineage:
    """The lineage of every scope of a recording."""
    scopes = recording.scopes
    parent = np.append(scopes.parent, NO_SCOPE)
    kind = np.append(scopes.kind, UNKNOWN)
    is_operator, is_module, is_node = (
        kind == wanted for wanted in (ScopeKind.OPERATOR, ScopeKind.MODULE, ScopeKind.AUTOGRAD_NODE)
    )
    runs_modules = is_operator & _named(recording, lambda name: name == _RUNS_MODULES)
    boundary = is_module | is_node | runs_modules
    operator = _outermost(parent, is_operator & ~runs_modules, boundary)
    node = nearest(parent, is_node)
    module, has_module = _modules(recording, parent, is_module, is_node)
    below_module = nearest(parent, is_module | is_node)
    traced = is_operator & (np.append(scopes.sequence, UNKNOWN) >= 0)
    below_traced = nearest(parent, traced | is_node)
    is_step = _named(recording, lambda name: name.startswith(_OPTIMIZER_STEP))
    step_or_node = nearest(parent, is_step | is_node)
    graph = nearest(parent, kind == ScopeKind.COMPILED_GRAPH)
    made_node = np.zeros(len(parent), dtype=np.bool_)
    made_node[creators(recording)] = True
    made_node[-1] = False
    return Lineage(
        operator=operator,
        node=node,
        module=module,
        has_module=has_module
        | (nearest(parent, runs_modules | _named(recording, lambda name: name == LOSS_SCOPE)) >= 0),
        recomputing_module=(node >= 0) & is_module[below_module],
        recomputing_operator=(node >= 0) & traced[below_traced],
        in_accumulation=(node >= 0) & _named(recording, lambda name: name == _ACCUMULATE)[node],
        communication=nearest(parent, _named(recording, lambda name: name.startswith(_COLLECTIVES))) >= 0,
        in_backward=_is(is_node, step_or_node),
        optimizer_step=_is(is_step, step_or_node),
        made_node=nearest(parent, made_node) >= 0,
        compiled=graph >= 0,
        frame=nearest(parent, kind == ScopeKind.PYTHON_FRAME),
        graph=graph,
    )


def nearest(parent: Integers, wanted: Flags) -> Integers:
    """For every scope the closest of itself and its ancestors that is wanted, -1 if none; by pointer doubling."""
    own = np.arange(len(parent))
    stop = wanted.copy()
    stop[-1] = True  # "no scope" points at itself
    jump = np.where(stop, own, parent)
    jump[jump == NO_SCOPE] = len(parent) - 1
    while True:
        further = jump[jump]
        if np.array_equal(further, jump):
            break
        jump = further
    return np.where(wanted[jump], jump, NO_SCOPE)


def _is(wanted: Flags, found: Integers) -> Flags:
    """Whether what was found is of the wanted kind."""
    return (found >= 0) & wanted[found]


def _outermost(parent: Integers, is_operator: Flags, boundary: Flags) -> Integers:
    """The operator furthest out from each scope with no boundary between them."""
    enclosing = nearest(parent, is_operator | boundary)[parent]
    top = is_operator & ~((enclosing >= 0) & is_operator[enclosing])
    found = nearest(parent, top | boundary)
    return np.where((found >= 0) & top[found], found, NO_SCOPE)


def _modules(recording: Recording, parent: Integers, is_module: Flags, is_node: Flags) -> tuple[Integers, Flags]:
    """Module path (string number) of every scope, and whether one is known."""
    name = np.append(recording.scopes.name, 0)
    enclosing = nearest(parent, is_module)
    closest = nearest(parent, is_module | is_node)
    creator = creators(recording)
    # A backward node belongs where its forward operator ran; that operator may itself be a recomputation inside a node.
    source = np.where((closest >= 0) & is_node[closest], enclosing[creator[closest]], enclosing)
    return np.where(source >= 0, name[source], 0), source >= 0


def creators(recording: Recording) -> Integers:
    """For every backward node the forward operator that made it: the last to begin with the node's sequence number.

    Operators carry the number that the next node will get, so several can carry the same; only the last one made a
    node.
    """
    scopes = recording.scopes
    creators = np.full(len(scopes) + 1, NO_SCOPE, dtype=np.int64)
    numbered = scopes.sequence >= 0
    forward = np.flatnonzero(numbered & (scopes.kind != ScopeKind.AUTOGRAD_NODE))
    backward = np.flatnonzero(numbered & (scopes.kind == ScopeKind.AUTOGRAD_NODE))
    if len(forward) and len(backward):
        ordered = forward[np.lexsort((scopes.start_ns[forward], scopes.sequence[forward]))]
        place = np.searchsorted(scopes.sequence[ordered], scopes.sequence[backward], side="right") - 1
        found = ordered[np.maximum(place, 0)]
        matches = scopes.sequence[found] == scopes.sequence[backward]
        creators[backward[matches]] = found[matches]
    return creators


def _named(recording: Recording, wanted: Callable[[str], bool]) -> Flags:
    """Which scopes have a name that ``wanted`` accepts."""
    accepted = np.array([wanted(text) for text in recording.strings], dtype=np.bool_)
    return np.append(accepted[recording.scopes.name], False)
