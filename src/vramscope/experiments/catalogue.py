"""All experiments, by the names that users type."""

from collections.abc import Mapping, Sequence
from typing import Any

from vramscope.errors import UsageError
from vramscope.experiments import (
    gradient_descent,
    linear_collapse,
    overfitting,
    tanh_vs_sigmoid,
    training_vs_inference,
    vanishing_gradients,
)
from vramscope.experiments.frame import Experiment
from vramscope.workloads.messages import suggestion

_MODULES = (
    linear_collapse,
    gradient_descent,
    vanishing_gradients,
    tanh_vs_sigmoid,
    overfitting,
    training_vs_inference,
)
EXPERIMENTS: Mapping[str, Experiment[Any]] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}


def choose(names: Sequence[str]) -> tuple[Experiment[Any], ...]:
    """The experiments of these names, all without any; in the catalogue's order, each once.

    Raises:
        UsageError: there is no experiment of that name.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise UsageError(
                f"there is no experiment {name!r}{suggestion(name, EXPERIMENTS)}: give some of {', '.join(EXPERIMENTS)}"
            )
    return tuple(experiment for name, experiment in EXPERIMENTS.items() if name in names or not names)
