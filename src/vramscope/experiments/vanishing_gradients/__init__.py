"""What do too many sigmoid layers do? Gradients through deep networks, by activation function."""

from vramscope.experiments.frame import Experiment
from vramscope.experiments.vanishing_gradients.claims import (
    judge_activation_is_why,
    judge_bound,
    judge_last_layers,
    judge_memory,
    judge_vanishing,
    timings,
)
from vramscope.experiments.vanishing_gradients.figure import answer, draw
from vramscope.experiments.vanishing_gradients.measurement import OTHERS_IN_MEMORY, measure
from vramscope.experiments.vanishing_gradients.networks import ACTIVATIONS

EXPERIMENT = Experiment(
    name="vanishing-gradients",
    question="What do too many sigmoid layers do?",
    measure=measure,
    rules=(judge_bound, judge_vanishing, judge_activation_is_why, judge_last_layers, judge_memory),
    answer=answer,
    draw=draw,
    count=lambda _: len(ACTIVATIONS) + len(ACTIVATIONS) + len(OTHERS_IN_MEMORY) + 1,
    time=timings,
)
