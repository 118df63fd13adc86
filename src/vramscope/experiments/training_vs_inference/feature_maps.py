"""The rule that inference needs two feature maps at a time, checked module by module against the ledger."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from vramscope.ledger.categories import CODE, Category, Flags
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import steady_window
from vramscope.recorders.labels import nested_tensors
from vramscope.recording.recording import Integers

Storages = Mapping[int, int]
"""Bytes by address; a storage that serves twice is there once."""
_PERMANENT = (Category.PARAMETERS, Category.BUFFERS, Category.INPUTS)


@dataclass
class Watch:
    """What goes into and comes out of every module, as addresses and sizes; the last forward of each module counts.

    Filled by hooks that keep numbers and no tensors.
    """

    inputs: dict[str, Storages] = field(default_factory=dict)
    outputs: dict[str, Storages] = field(default_factory=dict)
    leaves: set[str] = field(default_factory=set)

    def attach(self, model: nn.Module) -> None:
        """Watch every module of a model, for as long as the model lives."""
        for path, module in model.named_modules():
            module.register_forward_hook(self._hook(path))
            if not any(True for _ in module.children()):
                self.leaves.add(path)

    def _hook(self, path: str) -> Any:
        def after(module: nn.Module, arguments: Any, outputs: Any) -> None:
            self.inputs[path], self.outputs[path] = storages(arguments), storages(outputs)

        return after

    def pair(self, path: str) -> Storages:
        """A module's feature maps: what went in and what came out."""
        return {**self.inputs.get(path, {}), **self.outputs.get(path, {})}

    def largest_pair_bytes(self) -> int:
        """The most that the feature maps on either side of one layer (a module without children) take together."""
        return max(sum(self.pair(path).values()) for path in self.leaves)


def storages(nest: Any) -> dict[int, int]:
    """Bytes of every storage in a nest, by address."""
    found = (tensor.untyped_storage() for _, tensor in nested_tensors(nest))
    return {storage.data_ptr(): storage.nbytes() for storage in found}


@dataclass(frozen=True)
class Holding:
    """What was held at the fullest moment of one module's own computation; requested bytes.

    Attributes:
        path: the module's; its children are rows of their own.
        type: the module's class.
        held_bytes: activations and workspaces, wherever they come from, and the module's inputs.
        pair_bytes: its input and output feature maps.
        others: what was held besides the pair, by where it was made, in bytes.
    """

    path: str
    type: str
    held_bytes: int
    pair_bytes: int
    others: Mapping[str, int]

    @property
    def excess_bytes(self) -> int:
        """By how much the module breaks the rule; negative where it needs less than two maps."""
        return self.held_bytes - self.pair_bytes


def holdings(ledger: Ledger, watch: Watch) -> tuple[Holding, ...]:
    """The fullest moment of every module that allocates something itself in the steady step of an inference pass."""
    types = dict(ledger.recording.workload["modules"])
    by_module = dict(_events_by_module(ledger))
    return tuple(
        _holding(ledger, watch, path, types.get(path, ""), events, _pair_blocks(ledger, watch, path, by_module))
        for path, events in by_module.items()
    )


def _pair_blocks(ledger: Ledger, watch: Watch, path: str, by_module: Mapping[str, Integers]) -> Flags:
    """Which blocks are a module's input and output.

    An address serves many blocks in one step: the input is the one that is there before the module, or a part of it,
    allocates anything, the output the one that is there after all of that.
    """
    part = f"{path}." if path else ""
    inside = [events for other, events in by_module.items() if other == path or other.startswith(part)]
    first, last = min(int(events[0]) for events in inside), max(int(events[-1]) for events in inside)
    blocks = ledger.blocks
    into = np.isin(blocks.address, list(watch.inputs.get(path, {}))) & blocks.alive_after(first - 1)
    out = np.isin(blocks.address, list(watch.outputs.get(path, {}))) & blocks.alive_after(last)
    pair: Flags = (into | out) & (blocks.device == 0)
    return pair


def _events_by_module(ledger: Ledger) -> Iterator[tuple[str, Integers]]:
    """The steady step's allocations by the module that makes them, in the order in which modules begin to."""
    window = steady_window(ledger)
    rows = np.arange(window.first, window.last, dtype=np.int64)
    rows = rows[(ledger.recording.events.size[rows] > 0) & (ledger.recording.events.device[rows] == 0)]
    module = ledger.lineage.module[ledger.recording.events.scope[rows]]
    in_module = ledger.lineage.has_module[ledger.recording.events.scope[rows]]
    for number in dict.fromkeys(module[in_module].tolist()):
        yield ledger.recording.strings[number], rows[in_module & (module == number)]


def _holding(ledger: Ledger, watch: Watch, path: str, kind: str, events: Integers, pair: Flags) -> Holding:
    fullest = max(events.tolist(), key=lambda event: _held(ledger, event, pair))
    alive = _counted(ledger, fullest, pair)
    others: dict[str, int] = {}
    for block in np.flatnonzero(alive & ~pair).tolist():
        name = _origin(ledger, block, path)
        others[name] = others.get(name, 0) + int(ledger.blocks.requested[block])
    pair_bytes = sum(watch.pair(path).values())
    return Holding(path, kind, int(ledger.blocks.requested[alive].sum()), pair_bytes, dict(sorted(others.items())))


def _held(ledger: Ledger, event: int, pair: Flags) -> int:
    return int(ledger.blocks.requested[_counted(ledger, event, pair)].sum())


def _counted(ledger: Ledger, event: int, pair: Flags) -> Flags:
    """Blocks that a forward pass holds for a while; the workload's inputs only where the module reads them."""
    permanent = np.isin(ledger.category, [CODE[category] for category in _PERMANENT])
    read = ledger.is_category(Category.INPUTS) & pair
    counted: Flags = ledger.blocks.alive_after(event) & (ledger.blocks.device == 0) & (~permanent | read)
    return counted


def _origin(ledger: Ledger, block: int, path: str) -> str:
    """Which module and operator made a block: ``aten::conv2d here`` where it is the module itself."""
    scope = int(ledger.blocks.birth_scope[block])
    row = int(ledger.lineage.operator[scope])
    operator = ledger.recording.strings[int(ledger.recording.scopes.name[row])] if row >= 0 else "no operator"
    made_in = ledger.module_paths[int(ledger.module[block])]
    return f"{operator} here" if made_in == path else f"{operator} in {made_in or 'the model itself'}"
