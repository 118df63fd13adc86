"""tanh(z) + 1 = 2 sigmoid(2z): why then prefer tanh? The identity, the derivatives, and the speed of learning."""

from vramscope.experiments.frame import Experiment
from vramscope.experiments.tanh_vs_sigmoid.claims_on_functions import (
    judge_cancellation,
    judge_chain_rule,
    judge_identity,
    judge_ranges,
    judge_source_ranges,
)
from vramscope.experiments.tanh_vs_sigmoid.claims_on_learning import (
    judge_centred,
    judge_centring,
    judge_memory,
    judge_slope,
    judge_speed,
)
from vramscope.experiments.tanh_vs_sigmoid.figure import answer, draw
from vramscope.experiments.tanh_vs_sigmoid.learning import LEARNING_RATES
from vramscope.experiments.tanh_vs_sigmoid.measurement import measure

EXPERIMENT = Experiment(
    name="tanh-vs-sigmoid",
    question="tanh(z) + 1 = 2 sigmoid(2z): why prefer tanh?",
    measure=measure,
    rules=(
        judge_identity,
        judge_cancellation,
        judge_source_ranges,
        judge_ranges,
        judge_chain_rule,
        judge_centred,
        judge_speed,
        judge_slope,
        judge_centring,
        judge_memory,
    ),
    answer=answer,
    draw=draw,
    count=lambda _: 2 + len(LEARNING_RATES),
)
