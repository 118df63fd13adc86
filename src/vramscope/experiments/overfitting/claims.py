"""What is claimed of the remedies, judged by the gap and by what it is narrowed for: doing well on new data."""

from collections.abc import Callable
from dataclasses import asdict

from vramscope.experiments.overfitting.measurement import Measured
from vramscope.experiments.overfitting.recipes import BASELINE, RECIPES
from vramscope.experiments.overfitting.training import Outcome
from vramscope.findings import Claim, Origin

REMEDIES = tuple(name for name in RECIPES if name != BASELINE)


def judge_memorising(measured: Measured) -> Claim:
    """That there is something to cure."""
    found = measured.outcomes[BASELINE]
    gap = measured.gaps(BASELINE)
    return Claim(
        "A large network learns a small data set by heart: perfect on what it has seen, worse on what it has not",
        {
            "every seed is perfect on its training data": all(outcome.train_accuracy == 1 for outcome in found),
            "every seed is worse on new data": all(outcome.test_accuracy < outcome.train_accuracy for outcome in found),
        },
        f"accuracy {measured.spread(BASELINE, known).mean:.1%} in training, "
        f"{measured.accuracies(BASELINE).mean:.1%} on new data; gap {gap.mean:.2f} ± {gap.deviation:.2f} nats",
        _evidence(measured, BASELINE),
        Origin.CONTROL,
    )


def remedy_rule(name: str) -> Callable[[Measured], Claim]:
    """The rule that judges one remedy."""
    return lambda measured: judge_remedy(measured, name)


def judge_remedy(measured: Measured, name: str, claim: str = "") -> Claim:
    """Whether a remedy narrows the gap in every seed, and does better on new data than chance explains.

    Seeds are compared in pairs, which share data and first weights; "better" when the 95 % interval of the mean gain
    (Student's t) lies above 0. A narrow gap alone cures nothing: a network that learned nothing has none.
    """
    old, new = measured.gaps(BASELINE), measured.gaps(name)
    gain = measured.change(name, unknown)
    return Claim(
        claim or RECIPES[name].claim,
        {
            "the mean gap is smaller": new.mean < old.mean,
            "the gap is smaller for every seed": measured.narrows_every_gap(name),
            "accuracy on new data is higher (95% interval above 0)": gain.is_positive,
        },
        f"gap {new.mean:.2f} ± {new.deviation:.2f} nats instead of {old.mean:.2f} ± {old.deviation:.2f}; accuracy on "
        f"new data {measured.accuracies(name).mean:.1%} instead of {measured.accuracies(BASELINE).mean:.1%} "
        f"({100 * gain.mean:+.1f} ± {100 * gain.half_width:.1f} points, 95% interval)",
        {**_evidence(measured, name), "accuracy_gain": asdict(gain)},
    )


def known(outcome: Outcome) -> float:
    """Accuracy on the data a network was fitted to."""
    return outcome.train_accuracy


def unknown(outcome: Outcome) -> float:
    """Accuracy on new data."""
    return outcome.test_accuracy


def _evidence(measured: Measured, name: str) -> dict[str, object]:
    outcomes = measured.outcomes[name]
    return {
        "gap_nats": asdict(measured.gaps(name)),
        "gap_nats_by_seed": [outcome.gap for outcome in outcomes],
        "train_loss_by_seed": [outcome.train_loss for outcome in outcomes],
        "test_loss_by_seed": [outcome.test_loss for outcome in outcomes],
        "test_accuracy": asdict(measured.accuracies(name)),
        "train_accuracy": asdict(measured.spread(name, known)),
        "commoner_class_share": asdict(measured.spread(name, lambda outcome: outcome.commoner)),
        "seeds": measured.sizes.seeds,
    }
