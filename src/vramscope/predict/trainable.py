"""Which parameters a predicted training step trains: all, those of the last layer, or LoRA's adapters."""

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from torch import nn

from vramscope.errors import UsageError
from vramscope.workloads.libraries import import_library, require_library
from vramscope.workloads.workload import PreparedWorkload

LORA_RANK = 8
"""Peft's own default (``LoraConfig.r``)."""
PEFT = "peft"


class Trainable(StrEnum):
    """What is trained."""

    ALL = "all"
    LAST = "last"
    LORA = "lora"


def with_trainable(prepared: PreparedWorkload, trainable: Trainable) -> PreparedWorkload:
    """The workload with only those parameters trained; its model is changed in place, its optimizers are made later.

    Raises:
        TargetError: peft is not installed.
        UsageError: the model has no such layers.
    """
    if trainable is Trainable.ALL:
        return prepared
    note = _train_last(prepared.model) if trainable is Trainable.LAST else _add_adapters(prepared.model)
    return replace(prepared, notes=(*prepared.notes, note))


def _train_last(model: nn.Module) -> str:
    """Freeze everything but the last linear layer.

    Raises:
        UsageError: there is none, or its weight is another layer's too.
    """
    layers = dict(_linear_layers(model))
    if not layers:
        raise UsageError("the model has no linear layer that could be trained alone")
    name, last = list(layers.items())[-1]
    own = {id(parameter) for parameter in last.parameters()}
    others = (module for module in model.modules() if module is not last)
    if any(id(parameter) in own for module in others for parameter in module._parameters.values()):
        raise UsageError(f"the last layer, {name}, shares its weight with another layer: it cannot be trained alone")
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in own)
    return f"everything but the last layer, {name}, is frozen"


def _add_adapters(model: nn.Module) -> str:
    """Low-rank adapters beside every linear layer but the last, everything else frozen.

    Source: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, as peft makes them.

    Raises:
        TargetError: peft is not installed.
        UsageError: there is no such layer.
    """
    require_library("LoRA", PEFT, "pip install peft")
    peft = import_library("LoRA", PEFT)
    names = [name for name, _ in _linear_layers(model)][:-1]
    if not names:
        raise UsageError("the model has no linear layer besides its last one: LoRA has nothing to adapt")
    config = peft.LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=names)
    peft.get_peft_model(model, config)  # puts adapters into the model itself and freezes the rest
    return f"LoRA of rank {LORA_RANK} on {len(names)} linear layers; everything else is frozen"


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers, and GPT-2's ``Conv1D`` in transformers, which is one that is called otherwise."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            yield name, module
