"""What could be changed so that a workload needs less memory: each remedy is one change of how it runs."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vramscope.allocator.settings import AllocatorSettings
from vramscope.predict.setup import ONE_GPU, Setup
from vramscope.predict.trainable import Trainable
from vramscope.workloads.optimizers import BITSANDBYTES
from vramscope.workloads.passes import PassName
from vramscope.workloads.workload import WorkloadOptions


@dataclass(frozen=True)
class Plan:
    """Everything that a prediction depends on besides the GPU.

    Attributes:
        target: what to predict.
        options: how it runs.
        name: the pass.
        settings: the allocator's.
        setup: what is trained, over how many GPUs.
    """

    target: str
    options: WorkloadOptions
    name: str
    settings: AllocatorSettings = field(default_factory=AllocatorSettings)
    setup: Setup = ONE_GPU

    def with_options(self, **changed: Any) -> "Plan":
        """The plan with other options of the workload."""
        return replace(self, options=replace(self.options, **changed))


@dataclass(frozen=True)
class Remedy:
    """A change by its name; ``why`` says why it is not possible here, where that is known beforehand."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    setup: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def apply(self, plan: Plan) -> Plan:
        """The plan with this change."""
        changed = plan.with_options(**self.options)
        return replace(
            changed, setup=replace(plan.setup, **self.setup), settings=replace(plan.settings, **self.settings)
        )


def remedies_for(plan: Plan, over: str, size: int, unit: int = 1) -> list[Remedy]:
    """The remedies that would change something for a size that does not fit.

    Args:
        plan: as it is, at any size.
        over: what is sized, ``batch`` or ``seq``.
        size: the size.
        unit: what sizes are multiples of.
    """
    found = [Remedy("expandable_segments:True", settings={"expandable_segments": True})]
    if plan.options.amp is None and plan.options.dtype == "float32":
        found.insert(0, Remedy("amp bfloat16", {"amp": "bfloat16"}))
    if plan.name == PassName.TRAINING:
        found += _of_training(plan, over, size, unit)
    return [remedy for remedy in found if _plainly(remedy.apply(plan)) != _plainly(plan)]


def _plainly(plan: Plan) -> Plan:
    """The plan with its optimizer's name spelt as the remedies spell it."""
    name = plan.options.optimizer
    return plan if name is None else plan.with_options(optimizer=name.strip().lower())


def _of_training(plan: Plan, over: str, size: int, unit: int) -> list[Remedy]:
    found = [Remedy("checkpoint", {"checkpoint": True})]
    if over == "batch" and size > unit and plan.options.accumulate == 1:
        half = -(-size // (2 * unit)) * unit
        found.append(Remedy(f"accumulate 2 x {half}", {"batch": half, "accumulate": 2}))
    return found + _of_the_optimizer() + _of_what_is_trained(plan)


def _of_the_optimizer() -> list[Remedy]:
    missing = "" if importlib.util.find_spec(BITSANDBYTES) else f"pip install {BITSANDBYTES}"
    plain = {"foreach": None, "fused": None}
    return [
        Remedy("optimizer fused", {"fused": True, "foreach": None}),
        Remedy("optimizer sgd", {"optimizer": "sgd", **plain}),
        Remedy("optimizer adamw8bit", {"optimizer": "adamw8bit", **plain}, why=missing),
    ]


def _of_what_is_trained(plan: Plan) -> list[Remedy]:
    if plan.setup.trainable is not Trainable.ALL:
        return []
    return [
        Remedy("LoRA, the rest frozen", setup={"trainable": Trainable.LORA}),
        Remedy("last layer, the rest frozen", setup={"trainable": Trainable.LAST}),
    ]
