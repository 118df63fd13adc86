"""What is claimed of the minus sign, judged."""

from collections.abc import Mapping

from vramscope.experiments.gradient_descent.descent import MINUS, PLUS, STABLE, TOO_LARGE, Run
from vramscope.experiments.gradient_descent.measurement import Measured
from vramscope.findings import Claim, Origin


def judge_minus(measured: Measured, sign: float = MINUS) -> Claim:
    """The source's claim: a step with this sign goes down, towards a minimum."""
    runs = {name: by_way[sign, STABLE] for name, by_way in measured.runs.items()}
    checks = {f"{name}: every step lowers the loss": run.always_falls for name, run in runs.items()}
    checks |= {f"{name}: the slope flattens": run.slope_after < run.slope_before for name, run in runs.items()}
    return Claim(
        "The minus sign makes a step go against the slope: the loss falls, towards a minimum",
        checks,
        "; ".join(f"{name}: loss {run.losses[0]:.3f} to {run.losses[-1]:.3g}" for name, run in runs.items()),
        _run_evidence(runs),
    )


def judge_plus(measured: Measured) -> Claim:
    """The control: with the other sign the same step goes up."""
    runs = {name: by_way[PLUS, STABLE] for name, by_way in measured.runs.items()}
    return Claim(
        "With a plus sign the same step goes up the slope: the loss rises",
        {f"{name}: every step raises the loss": run.always_rises for name, run in runs.items()},
        "; ".join(f"{name}: loss {run.losses[0]:.3f} to {run.losses[-1]:.3g}" for name, run in runs.items()),
        _run_evidence(runs),
        Origin.CONTROL,
    )


def judge_sign_alone(measured: Measured) -> Claim:
    """What the source leaves out: the slope is only a local direction, so the step must not be too long."""
    runs = {(name, size): by_way[MINUS, size] for name, by_way in measured.runs.items() for size in (STABLE, TOO_LARGE)}
    bowl = measured.runs["quadratic"][MINUS, TOO_LARGE]
    return Claim(
        "The minus sign alone makes the loss fall, whatever the learning rate",
        {f"{name}, learning rate {size}/λ": run.losses[-1] < run.losses[0] for (name, size), run in runs.items()},
        f"with a learning rate of {TOO_LARGE}/λ the quadratic's loss goes from {bowl.losses[0]:.2f} "
        f"to {bowl.losses[-1]:.3g}",
        _run_evidence({f"{name}, {size}/λ": run for (name, size), run in runs.items()}),
        Origin.QUESTION,
    )


def _run_evidence(runs: Mapping[str, Run]) -> dict[str, object]:
    return {
        name: {
            "first_loss": run.losses[0],
            "last_loss": run.losses[-1],
            "steps": len(run.losses) - 1,
            "slope_before": run.slope_before,
            "slope_after": run.slope_after,
        }
        for name, run in runs.items()
    }
