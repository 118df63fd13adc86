"""Why does training need more memory than inference? Each claim on an MLP, a CNN and a transformer."""

from vramscope.experiments.frame import Experiment
from vramscope.experiments.training_vs_inference.figure import answer, draw
from vramscope.experiments.training_vs_inference.held import judge_chain, judge_discards, judge_two_maps
from vramscope.experiments.training_vs_inference.measurement import measure
from vramscope.experiments.training_vs_inference.models import MODELS
from vramscope.experiments.training_vs_inference.retained import (
    judge_batch,
    judge_checkpointing,
    judge_depth,
    judge_dominance,
    judge_no_grad,
)
from vramscope.experiments.training_vs_inference.sizes import sizes_of, variants_of
from vramscope.experiments.training_vs_inference.stored import (
    judge_explanation,
    judge_gradients,
    judge_learning_rates,
    judge_optimizer_peak,
    judge_state,
)

EXPERIMENT = Experiment(
    name="training-vs-inference",
    question="Why does training need more memory than inference?",
    measure=measure,
    rules=(
        judge_gradients,
        judge_learning_rates,
        judge_state,
        judge_optimizer_peak,
        judge_explanation,
        judge_batch,
        judge_dominance,
        judge_depth,
        judge_no_grad,
        judge_checkpointing,
        judge_discards,
        judge_two_maps,
        judge_chain,
    ),
    answer=answer,
    draw=draw,
    count=lambda settings: 1 + sum(len(variants_of(sizes_of(settings), model)) + 1 for model in MODELS),
)
