"""Why `vramscope run` has recorded no step, in one line."""

from collections.abc import Mapping
from typing import Any

_CHILDREN_SECONDS = 1.0
"""Processor time of child processes from which they may have trained something: to import torch takes as long."""


def why_no_step(status: Mapping[str, Any], first: int) -> str:
    """Why no step was recorded, given what the script's process said at its end and the first step that was wanted."""
    steps = dict(status.get("steps", {}))
    optimizers = dict(status.get("optimizers", {}))
    if optimizers.get("steps") and not steps.get("training"):
        return _not_over(dict(optimizers["steps"]), list(optimizers["awaited"]))
    if not sum(steps.values()):
        return _none_at_all(optimizers)
    advice = "; --steps 0:1 records from the start" if first else ""
    return f"no step ended in the window ({sum(steps.values())} seen in all){advice}"


def _not_over(steps: Mapping[str, int], awaited: list[str]) -> str:
    """Optimizers have stepped, and none of their steps was taken for the end of a training step."""
    seen = f"no training step ended: {_count(sum(steps.values()), 'optimizer step')} ({_names(steps)})"
    if awaited:
        return (
            f"{seen} came, and {_names(awaited)}, which had not stepped, was waited for to take turns: train for more "
            f"than 8 optimizer steps, or create {_names(awaited)} once it is to step"
        )
    return f"{seen} came, and in what order they take turns was not known yet: train until each has stepped twice more"


def _none_at_all(optimizers: Mapping[str, Any]) -> str:
    elsewhere, children = optimizers.get("steps_elsewhere", 0), optimizers.get("children_seconds", 0.0)
    if elsewhere:
        return (
            f"no step ended on the thread that imported torch, the only one that is recorded, and "
            f"{_count(elsewhere, 'optimizer step')} on others: train on the thread that imports torch"
        )
    calls_elsewhere = optimizers.get("calls_elsewhere", 0)
    if calls_elsewhere and not optimizers.get("models"):
        return (
            "no step ended on the thread that imported torch, the only one that is recorded, and modules ran on "
            "others: run them on the thread that imports torch"
        )
    known = (
        "no step ended; what ends one is a step of an optimizer of torch.optim, or a model's forward under "
        "torch.no_grad() with no backward pass before it"
    )
    if calls_elsewhere:
        known += "; what modules did on other threads than the one that imported torch is not recorded"
    if children < _CHILDREN_SECONDS:
        return known
    return f"{known}; child processes, which took {children:.0f} s of processor time, are not recorded"


def _count(number: int, of_what: str) -> str:
    return f"{number} {of_what}{'' if number == 1 else 's'}"


def _names(classes: "Mapping[str, int] | list[str]") -> str:
    return ", ".join(dict.fromkeys(classes))
