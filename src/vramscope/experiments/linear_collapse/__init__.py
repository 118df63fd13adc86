"""Is a deep network without activation functions one linear layer? In function yes, in memory no."""

from vramscope.experiments.frame import Experiment
from vramscope.experiments.linear_collapse.claims import (
    judge_collapse,
    judge_control,
    judge_memory,
    judge_nothing_changes,
)
from vramscope.experiments.linear_collapse.figure import answer, draw
from vramscope.experiments.linear_collapse.measurement import measure
from vramscope.experiments.linear_collapse.networks import sizes_of

EXPERIMENT = Experiment(
    name="linear-collapse",
    question="Is a deep network without activation functions one linear layer?",
    measure=measure,
    rules=(judge_collapse, judge_control, judge_nothing_changes, judge_memory),
    answer=answer,
    draw=draw,
    count=lambda settings: len(sizes_of(settings).depths),
)
