"""What is claimed to be stored for each weight, judged."""

from vramscope.experiments.profiled import STEP_COUNTER, moment_bytes
from vramscope.experiments.training_vs_inference.measured import Measured, Pair
from vramscope.experiments.training_vs_inference.models import MODELS
from vramscope.findings import Claim, Origin
from vramscope.ledger.categories import Category
from vramscope.units import format_size

CLOSE = 0.1
"""Two amounts whose difference is at most this share of the larger one count as equal where a claim is rough."""


def judge_gradients(measured: Measured, copies: int = 1) -> Claim:
    """The gradients when the optimizer takes over, in requested bytes."""
    found = {model: measured.base(model).training.requested_before("optimizer") for model in MODELS}
    gradients = {model: by_category[Category.GRADIENTS] for model, by_category in found.items()}
    parameters = {model: by_category[Category.PARAMETERS] for model, by_category in found.items()}
    return Claim(
        f"Training stores each weight's gradient: {copies} x the parameters' bytes",
        {model: gradients[model] == copies * parameters[model] for model in MODELS},
        ", ".join(f"{model} {gradients[model]:,} B for {parameters[model]:,} B of parameters" for model in MODELS),
        {"gradient_bytes": gradients, "parameter_bytes": parameters},
    )


def judge_learning_rates(measured: Measured) -> Claim:
    """The source's "and learning rates": one for each weight?"""
    stored = {model: sum(controls.sgd.state_bytes().values()) for model, controls in measured.controls.items()}
    rates = {model: controls.learning_rates for model, controls in measured.controls.items()}
    weights = {model: controls.weights for model, controls in measured.controls.items()}
    return Claim(
        "Training stores a learning rate for each weight",
        {
            **{f"{model}: as many learning rates as weights": rates[model] == weights[model] for model in MODELS},
            **{f"{model}: plain SGD stores something per weight": stored[model] >= weights[model] for model in MODELS},
        },
        ", ".join(f"{model} {rates[model]} learning rate for {weights[model]:,} weights" for model in MODELS),
        {"learning_rates": rates, "weights": weights, "sgd_state_bytes": stored},
    )


def judge_state(measured: Measured, copies: int = 2) -> Claim:
    """What is stored per weight instead: nothing by SGD, two moments by AdamW."""
    checks, words, evidence = {}, [], {}
    for model, controls in measured.controls.items():
        adam, sgd = measured.base(model).training, controls.sgd
        state = adam.state_bytes()
        moments = moment_bytes(state)
        checks[f"{model}: AdamW"] = moments == copies * adam.parameter_bytes
        checks[f"{model}: SGD"] = sum(sgd.state_bytes().values()) == 0
        words.append(f"{model} {moments / adam.parameter_bytes:g} copies + {state[STEP_COUNTER]} B of counters")
        evidence[model] = {
            "adamw_state_bytes": state,
            "sgd_state_bytes": sgd.state_bytes(),
            "parameter_bytes": adam.parameter_bytes,
            "adamw_peak_bytes": adam.summary.peak.bytes,
            "sgd_peak_bytes": sgd.summary.peak.bytes,
        }
    statement = f"What is stored per weight besides is optimizer state: nothing with SGD, {copies} copies with AdamW"
    return Claim(statement, checks, ", ".join(words), evidence, Origin.CORRECTION)


def judge_optimizer_peak(measured: Measured) -> Claim:
    """The control of the state: SGD in AdamW's place lowers the peak by it, and by AdamW's temporaries at most."""
    checks, words, evidence = {}, [], {}
    for model, controls in measured.controls.items():
        adam = measured.base(model).training
        saved = adam.summary.peak.bytes - controls.sgd.summary.peak.bytes
        state = adam.most_bytes(Category.OPTIMIZER_STATE)
        temporaries = adam.most_bytes(Category.OPTIMIZER_TEMPORARIES)
        checks[model] = state <= saved <= state + temporaries
        words.append(f"{model} saves {format_size(saved)}, state {format_size(state)}")
        evidence[model] = {"saved_bytes": saved, "state_bytes": state, "temporary_bytes": temporaries}
    statement = "SGD instead of AdamW lowers training's peak by the state, and at most the step's temporaries"
    return Claim(statement, checks, ", ".join(words), evidence, Origin.CONTROL)


def judge_explanation(measured: Measured) -> Claim:
    """The source's explanation in bytes: one gradient and one more number for each weight, and nothing else."""
    checks, evidence = {}, {}
    for model in MODELS:
        for batch, pair in measured.over_batch(model).items():
            stated = 2 * pair.training.parameter_bytes
            off = abs(pair.extra_bytes - stated)
            checks[f"{model}, batch {batch}"] = off <= CLOSE * max(stated, pair.extra_bytes)
            evidence[f"{model}, batch {batch}"] = {"extra_bytes": pair.extra_bytes, "explained_bytes": stated}
    shares = {m: [_explained(pair) for pair in measured.over_batch(m).values()] for m in MODELS}
    return Claim(
        "A gradient and a learning rate for each weight are what training needs more than inference",
        checks,
        "explained, from the largest batch to the smallest: "
        + ", ".join(f"{model} {by[-1]:.1%} to {by[0]:.1%}" for model, by in shares.items())
        + " of the difference",
        evidence,
    )


def _explained(pair: Pair) -> float:
    """The source's two numbers for each weight as a share of what training needs more."""
    return 2 * pair.training.parameter_bytes / pair.extra_bytes
