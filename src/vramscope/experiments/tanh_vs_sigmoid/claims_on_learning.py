"""What is claimed of networks with either function, judged."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from vramscope.experiments.tanh_vs_sigmoid.learning import FORMS, LEARNING_RATES, THRESHOLD, form_of
from vramscope.experiments.tanh_vs_sigmoid.measurement import Measured
from vramscope.findings import Claim, Origin
from vramscope.units import format_size

_EITHER = (True, False)


def judge_centred(measured: Measured) -> Claim:
    """Activations around 0, which sigmoid's cannot be.

    No threshold: weights, biases and inputs are drawn symmetrically about 0, so that an odd function's mean activation
    is 0 on average over seeds, and that of an odd function plus 1/2 is 1/2. Whether 0 explains what was measured is
    for the 95 % interval of the mean over seeds to say.
    """
    means = measured.mean_activations
    return Claim(
        "tanh is centred at 0, sigmoid is not",
        {
            "tanh: 0 lies in the mean's 95% interval": means["tanh"].may_be(0.0),
            "sigmoid: 0 does not": not means["sigmoid"].may_be(0.0),
        },
        ", ".join(f"mean activation of {n} {s.mean:.3f} ± {s.half_width:.3f}" for n, s in means.items())
        + f" (95% interval, {len(measured.seeds)} seeds)",
        {"mean_activation": {name: asdict(spread) for name, spread in means.items()}, "seeds": measured.seeds},
    )


def judge_speed(measured: Measured, faster: str = "tanh", slower: str = "sigmoid") -> Claim:
    """Epochs to a loss, from the same weights with the same steps, at several learning rates; nothing on the cause."""
    return Claim(
        f"{faster} converges faster than {slower}",
        _faster_in_every_seed(measured, [(faster, slower)]),
        f"median epochs to a loss of {THRESHOLD}: {_medians(measured, faster, slower)}",
        _epoch_evidence(measured),
    )


def judge_slope(measured: Measured) -> Claim:
    """The source's cause, isolated: functions with the same centre and one or four times the slope.

    tanh is sigmoid - 1/2 twice as high and twice as fast; which of the two factors of the slope matters is not asked.
    """
    pairs = [(form_of(steep=True, centred=c), form_of(steep=False, centred=c)) for c in _EITHER]
    statement = "The larger derivative makes it faster: with the same centre, four times the slope takes fewer epochs"
    return _judge_cause(measured, statement, pairs, Origin.SOURCE)


def judge_centring(measured: Measured) -> Claim:
    """The other difference, isolated: functions that differ by a constant alone, steep or not."""
    pairs = [(form_of(steep=s, centred=True), form_of(steep=s, centred=False)) for s in _EITHER]
    statement = "Being centred at 0 makes it faster: with the same slope, a middle at 0 takes fewer epochs"
    return _judge_cause(measured, statement, pairs, Origin.QUESTION)


def _judge_cause(measured: Measured, statement: str, pairs: Sequence[tuple[str, str]], origin: Origin) -> Claim:
    """Whether in pairs of functions that differ in one respect the first is the faster."""
    return Claim(
        statement,
        _faster_in_every_seed(measured, pairs),
        "; ".join(f"{faster} against {slower}: {_medians(measured, faster, slower)}" for faster, slower in pairs),
        _epoch_evidence(measured),
        origin,
    )


def judge_memory(measured: Measured) -> Claim:
    """Neither function is the cheaper one to train with."""
    retained = {name: profile.retained_bytes for name, profile in measured.profiles.items()}
    peaks = {name: profile.summary.peak.bytes for name, profile in measured.profiles.items()}
    return Claim(
        "Training takes equally much memory with tanh and with sigmoid",
        {
            "retained activations": retained["tanh"] == retained["sigmoid"],
            "peak": peaks["tanh"] == peaks["sigmoid"],
        },
        ", ".join(f"{name} {format_size(size)} at the peak" for name, size in peaks.items()),
        {"retained_bytes": retained, "training_peak_bytes": peaks},
        Origin.CONTROL,
    )


def _faster_in_every_seed(measured: Measured, pairs: Iterable[tuple[str, str]]) -> dict[str, bool]:
    """For each pair and learning rate: whether the first reached the loss before the second from every seed."""
    return {
        f"{faster} before {slower}, learning rate {rate}, every seed": all(
            a < b
            for a, b in zip(measured.epochs_or_all(rate, faster), measured.epochs_or_all(rate, slower), strict=True)
        )
        for faster, slower in pairs
        for rate in LEARNING_RATES
    }


def _medians(measured: Measured, faster: str, slower: str) -> str:
    return ", ".join(
        f"{median_epochs(measured, rate, faster)} against {median_epochs(measured, rate, slower)} "
        f"(learning rate {rate})"
        for rate in LEARNING_RATES
    )


def median_epochs(measured: Measured, rate: float, name: str) -> str:
    """In words: over all that were run where most seeds never got there."""
    median = statistics.median(measured.epochs_or_all(rate, name))
    return f"over {median:.0f}" if median >= measured.most_epochs else f"{median:.0f}"


def _epoch_evidence(measured: Measured) -> dict[str, object]:
    return {
        "epochs_by_learning_rate": {
            str(rate): {name: measured.epochs(rate, name) for name in FORMS} for rate in LEARNING_RATES
        },
        "threshold": THRESHOLD,
        "most_epochs": measured.most_epochs,
        "seeds": measured.seeds,
    }
