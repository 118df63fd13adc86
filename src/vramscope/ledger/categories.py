"""What a block of memory is for, and the evidence that says so."""

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from vramscope.ledger.blocks import Blocks
from vramscope.ledger.lineage import Lineage
from vramscope.ledger.periods import PHASE_CODE, Periods
from vramscope.recording.recording import Integers, MarkKind, PhaseName, Recording

Flags = npt.NDArray[np.bool_]


class Category(StrEnum):
    """The categories of memory; every block has exactly one."""

    PARAMETERS = "parameters"
    BUFFERS = "buffers"
    INPUTS = "inputs"
    ACTIVATIONS = "activations"
    GRADIENTS = "gradients"
    ACTIVATION_GRADIENTS = "activation_gradients"
    OPTIMIZER_STATE = "optimizer_state"
    OPTIMIZER_TEMPORARIES = "optimizer_temporaries"
    WORKSPACE = "workspace"
    COMMUNICATION = "communication"
    UNATTRIBUTED = "unattributed"


CATEGORIES = tuple(Category)
CODE = {category: code for code, category in enumerate(CATEGORIES)}
"""The number that stands for a category in a column."""

_CATEGORY_OF_MARK = {
    MarkKind.PARAMETER: Category.PARAMETERS,
    MarkKind.BUFFER: Category.BUFFERS,
    MarkKind.INPUT: Category.INPUTS,
    MarkKind.OPTIMIZER_STATE: Category.OPTIMIZER_STATE,
    MarkKind.GRADIENT: Category.GRADIENTS,
    MarkKind.COMMUNICATION: Category.COMMUNICATION,
    MarkKind.LIBRARY_WORKSPACE: Category.WORKSPACE,
    MarkKind.KV_CACHE: Category.ACTIVATIONS,
}
MARK_PRECEDENCE = (*_CATEGORY_OF_MARK, MarkKind.TARGET, MarkKind.ROOT_GRADIENT)
"""When one block carries several marks the earliest of these decides: a parameter stays one whatever refers to it."""
_MAKES_ROOT_GRADIENT = "aten::ones_like"
"""``loss.backward()`` makes its first gradient so, before the engine starts (torch/autograd/__init__.py,
_make_grads)."""


def categorize(recording: Recording, blocks: Blocks, marks: Integers, lineage: Lineage, periods: Periods) -> Integers:
    """The category code of every block: weaker evidence is overwritten by stronger, and a phase alone is none.

    Args:
        recording: the facts.
        blocks: its blocks.
        marks: for each block the row of its deciding mark, or -1.
        lineage: what scopes inherit.
        periods: steps and phases.
    """
    scope = blocks.birth_scope
    phase = periods.phase_code(blocks.birth)
    in_forward_operator = (lineage.operator[scope] >= 0) & (phase == PHASE_CODE[PhaseName.FORWARD])
    kinds = np.where(marks >= 0, np.append(recording.marks.kind, -1)[marks], -1)
    codes = np.full(len(blocks), CODE[Category.UNATTRIBUTED], dtype=np.int64)
    codes[kinds == MarkKind.TARGET] = CODE[Category.INPUTS]
    # Inside a module's forward some allocations come before any operator: `x + 1` wraps the 1, dropout keeps the
    # generator's state.
    forward = in_forward_operator | lineage.has_module[scope] | lineage.made_node[scope] | lineage.compiled[scope]
    codes[forward] = CODE[Category.ACTIVATIONS]
    # a step that is compiled runs its graph outside the scope that torch opens around others
    stepping = (lineage.optimizer_step | lineage.compiled)[scope] & (phase == PHASE_CODE[PhaseName.OPTIMIZER])
    codes[stepping] = CODE[Category.OPTIMIZER_TEMPORARIES]
    codes[lineage.in_backward[scope]] = CODE[Category.ACTIVATION_GRADIENTS]
    codes[find_recomputed(blocks, lineage, periods)] = CODE[Category.ACTIVATIONS]
    codes[_added_into_gradients(blocks, lineage)] = CODE[Category.GRADIENTS]
    codes[_inside_one_operator(blocks, lineage)] = CODE[Category.WORKSPACE]
    codes[lineage.communication[scope]] = CODE[Category.COMMUNICATION]
    codes[_made_as_root_gradient(recording, blocks, kinds, lineage)] = CODE[Category.ACTIVATION_GRADIENTS]
    for kind, category in _CATEGORY_OF_MARK.items():
        codes[kinds == kind] = CODE[category]
    return codes


def _made_as_root_gradient(recording: Recording, blocks: Blocks, kinds: Integers, lineage: Lineage) -> Flags:
    """First gradients of a backward pass, as far as torch made them: one the program passes in keeps its own
    category."""
    operator = lineage.operator[blocks.birth_scope]
    names = np.append(recording.scopes.name, 0)[operator]
    wanted = recording.strings.index(_MAKES_ROOT_GRADIENT) if _MAKES_ROOT_GRADIENT in recording.strings else -1
    return (kinds == MarkKind.ROOT_GRADIENT) & (operator >= 0) & (names == wanted)


def find_recomputed(blocks: Blocks, lineage: Lineage, periods: Periods) -> Flags:
    """Blocks that a forward computation repeated during backward has made (activation checkpointing).

    A backward formula runs with gradients off, a recomputed operator with gradients on. When the backward pass builds
    a graph
    of its own (``create_graph``, the phase's value) that difference is gone, and only a module around the operator
    tells.
    """
    values = np.array([phase.value for phase in periods.phases] + [0], dtype=np.int64)
    builds_graph = values[periods.phase_rows(blocks.birth)] != 0
    scope = blocks.birth_scope
    return lineage.recomputing_module[scope] | (lineage.recomputing_operator[scope] & ~builds_graph)


def _added_into_gradients(blocks: Blocks, lineage: Lineage) -> Flags:
    """Blocks of a backward pass that an accumulation node added in place into an existing ``.grad`` and then dropped.

    Where the node allocated, it copied instead; then the copy is the gradient and carries a mark.
    """
    accumulation = np.where(lineage.in_accumulation[blocks.death_scope], lineage.node[blocks.death_scope], -1)
    made_there = np.zeros(len(lineage.node), dtype=np.bool_)
    birth_node = lineage.node[blocks.birth_scope]
    made_there[birth_node[birth_node >= 0]] = True
    return (birth_node >= 0) & (accumulation >= 0) & ~made_there[accumulation]


def _inside_one_operator(blocks: Blocks, lineage: Lineage) -> Flags:
    """Blocks born and freed within one call of one operator: scratch that no tensor of the program ever held."""
    operator = lineage.operator[blocks.birth_scope]
    return (operator >= 0) & (operator == lineage.operator[blocks.death_scope])
