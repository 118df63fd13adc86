"""What is claimed of the memory that a step takes, judged."""

from collections.abc import Mapping

from vramscope.experiments.gradient_descent.measurement import LABELS, Measured
from vramscope.experiments.profiled import STEP_COUNTER, Profiled, moment_bytes
from vramscope.findings import Claim, Origin
from vramscope.ledger.categories import Category

COPIES: Mapping[str, int] = {"sgd": 0, "sgd:momentum=0.9": 1, "adam": 2, "adamw": 2}
"""Numbers that each optimizer keeps per parameter: none; the momentum; Adam's two moments (Kingma and Ba, 2015)."""
_COUNTER_BYTES = 4
"""torch keeps the step count as one float32 per parameter tensor (torch/optim/adam.py, _init_group)."""


def judge_state(measured: Measured, copies: Mapping[str, int] = COPIES) -> Claim:
    """What is stored per parameter, to the byte."""
    state = {name: profile.state_bytes() for name, profile in measured.profiles.items()}
    checks = {}
    for name, count in copies.items():
        moments = moment_bytes(state[name])
        counters = _COUNTER_BYTES * measured.tensors if "adam" in name else 0
        checks[f"{LABELS[name]}: {_copies(count)}"] = moments == count * measured.profiles[name].parameter_bytes
        checks[f"{LABELS[name]}: {counters} bytes of counters"] = state[name].get(STEP_COUNTER, 0) == counters
    return Claim(
        "Per parameter SGD stores nothing, momentum one number, Adam and AdamW two, and a step counter per tensor",
        checks,
        "; ".join(f"{LABELS[name]} {state_words(state[name], measured.profiles[name])}" for name in state),
        {
            "parameter_bytes": {LABELS[name]: profile.parameter_bytes for name, profile in measured.profiles.items()},
            "requested_state_bytes": {LABELS[name]: by_name for name, by_name in state.items()},
            "parameter_tensors": measured.tensors,
        },
        Origin.CORRECTION,
    )


def judge_in_place(measured: Measured) -> Claim:
    """What an optimizer needs only while it steps; on the CPU it goes from one parameter tensor to the next.

    Hence the largest tensor counts and not all of them together. The 8 bytes are a factor, such as the momentum's, as a
    float64 tensor without dimensions.
    """
    temporary = {name: p.most_bytes(Category.OPTIMIZER_TEMPORARIES) for name, p in measured.profiles.items()}
    return Claim(
        "An optimizer's step needs no memory besides its state",
        {LABELS[name]: size == 0 for name, size in temporary.items()},
        "temporaries in the step: "
        + ", ".join(f"{LABELS[n]} {size:,} B" for n, size in temporary.items())
        + f"; the largest parameter tensor has {measured.largest_tensor_bytes:,} B",
        {
            "largest_tensor_bytes": measured.largest_tensor_bytes,
            "temporary_peak_bytes": {LABELS[name]: size for name, size in temporary.items()},
        },
        Origin.QUESTION,
    )


def state_words(state: Mapping[str, int], profile: Profiled) -> str:
    """An optimizer's state as copies of the parameters, and its counters."""
    counters = f" + {state[STEP_COUNTER]} B" if STEP_COUNTER in state else ""
    return f"{_copies(moment_bytes(state) / profile.parameter_bytes)}{counters}"


def _copies(number: float) -> str:
    return f"{number:g} {'copy' if number == 1 else 'copies'}"
