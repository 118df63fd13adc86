"""How can overfitting be cured? A network that memorises a small data set, and what each remedy does to its gap."""

from vramscope.experiments.frame import Experiment
from vramscope.experiments.overfitting.claims import REMEDIES, judge_memorising, remedy_rule
from vramscope.experiments.overfitting.figure import answer, draw
from vramscope.experiments.overfitting.measurement import measure
from vramscope.experiments.overfitting.memory import judge_memory
from vramscope.experiments.overfitting.recipes import RECIPES

EXPERIMENT = Experiment(
    name="overfitting",
    question="How can overfitting be cured?",
    measure=measure,
    rules=(judge_memorising, *(remedy_rule(name) for name in REMEDIES), judge_memory),
    answer=answer,
    draw=draw,
    count=lambda _: len(RECIPES),
)
