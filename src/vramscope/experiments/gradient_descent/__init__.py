"""What does the minus sign in gradient descent mean? And what each optimizer stores to take its step."""

from vramscope.experiments.frame import Experiment
from vramscope.experiments.gradient_descent.figure import answer, draw
from vramscope.experiments.gradient_descent.measurement import LABELS, measure
from vramscope.experiments.gradient_descent.memory import judge_in_place, judge_state
from vramscope.experiments.gradient_descent.signs import judge_minus, judge_plus, judge_sign_alone

EXPERIMENT = Experiment(
    name="gradient-descent",
    question="What does the minus sign in gradient descent mean?",
    measure=measure,
    rules=(judge_minus, judge_plus, judge_sign_alone, judge_state, judge_in_place),
    answer=answer,
    draw=draw,
    count=lambda _: 1 + len(LABELS),
)
