"""What a script has shown of itself so far: its models and its optimizers."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from vramscope.recorders.labels import Label, label_gradients, label_model
from vramscope.recorders.optimizer_names import OptimizerNames
from vramscope.recorders.scripts.roots import Roots

_MOST_VAIN_LOOKS = 16
"""How often in a row a look may find nothing, until none is taken within a window any more: it takes a tenth of a
second, and a script may make a model in every step."""


class Scene:
    """Models and optimizers, found one after another and kept alive by nobody."""

    def __init__(self) -> None:
        self.roots = Roots()
        self.optimizer_names = OptimizerNames()
        self._optimizers: WeakKeyDictionary[Optimizer, None] = WeakKeyDictionary()
        self._found_optimizers = 0
        self._looked_at = self._found
        self._vain_looks = 0

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that are alive, in the order in which they were found."""
        return list(self._optimizers)

    def add_optimizer(self, optimizer: Optimizer) -> list[nn.Module]:
        """Take note of an optimizer; gives the models that are found through its parameters."""
        if optimizer in self._optimizers:
            return []
        self._optimizers[optimizer] = None
        self._found_optimizers += 1
        parameters = [p for group in optimizer.param_groups for p in group["params"] if isinstance(p, Tensor)]
        if not self.roots.lacks(parameters):
            return []
        return self.roots.owners(parameters)

    @property
    def _found(self) -> tuple[int, int]:
        """How many models and optimizers were ever found, those included that are gone."""
        return self.roots.found, self._found_optimizers

    def find_idle_models(self) -> list[tuple[nn.Module, str]]:
        """Take note of live models that nobody has run: moving averages, models of later turns, replaced ones."""
        self._looked_at = self._found
        return [(model, self.roots.add_idle(model)) for model in self.roots.unknown()]

    def label_more_idle_models(self) -> list[Label]:
        """Look again where something has come into play since the last look; labels of what was found."""
        if self._found == self._looked_at or self._vain_looks >= _MOST_VAIN_LOOKS:
            return []
        more = self.find_idle_models()
        self._vain_looks = 0 if more else self._vain_looks + 1
        return [label for model, prefix in more for label in _quietly_labelled(model, prefix)]

    def labels(self) -> Iterator[Label]:
        """What models and optimizers hold now: parameters, buffers, gradients and states."""
        names: dict[int, str] = {}
        for model, prefix in self.roots:
            named = list(model.named_parameters(prefix=prefix))
            names.update((id(parameter), name) for name, parameter in named)
            yield from label_model(model, prefix)
            yield from label_gradients(named)
        for model, prefix in self.roots.idle():  # not its gradients, which may come and go on another thread
            yield from _quietly_labelled(model, prefix)
        yield from self.optimizer_names.label(self.optimizers, names)

    def gradients(self) -> tuple[int, int]:
        """How many gradients the models' parameters have, and how often these were written.

        A backward pass that adds to them shows, and so does the first one.
        """
        parameters = (parameter for model, _ in self.roots for parameter in model.parameters())
        versions = [gradient._version for parameter in parameters if (gradient := parameter.grad) is not None]
        return len(versions), sum(versions)

    def facts(self) -> dict[str, Any]:
        """What a recording says of the script's models and optimizers, in plain JSON types."""
        models = [model for model, _ in self.roots]
        counted = {id(p): p.numel() for model in models for p in model.parameters() if not is_lazy(p)}
        for optimizer in self.optimizers:
            others = self.optimizer_names.others(optimizer, lambda parameter: id(parameter) in counted)
            counted.update((id(parameter), parameter.numel()) for _, _, parameter in others)
        return {
            "name": ", ".join(type(model).__name__ for model in models),
            "device": str(self.device),
            "optimizer": ", ".join(sorted({type(optimizer).__name__ for optimizer in self.optimizers})),
            "parameter_count": sum(counted.values()),
            "tool": "run",
            **place_of_process(),
        }

    @property
    def device(self) -> torch.device:
        """The device whose allocator matters: that of the first model, the GPU before there is one with memory."""
        found = self.roots.device
        if found is not None:
            return found
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_initialized() else torch.device("cpu")


def _quietly_labelled(model: nn.Module, prefix: str) -> list[Label]:
    """Labels of what a model holds; none of one that has no memory, as the compiler's."""
    with suppress(Exception):
        return list(label_model(model, prefix))
    return []


def place_of_process() -> dict[str, int]:
    """Which rank of how many this process is: as torch.distributed says, else torchrun; empty outside such a job."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return {"rank": torch.distributed.get_rank(), "ranks": torch.distributed.get_world_size()}
    rank, ranks = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return {"rank": int(rank), "ranks": int(ranks)} if rank.isdecimal() and ranks.isdecimal() else {}
