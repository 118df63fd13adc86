"""Single operators and layers on CUDA: what is predicted of each is what torch's own allocator says, event by event."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts" / "gpu"


@pytest.fixture(scope="module")
def operators() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    try:
        import operators

        yield operators
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def both(operators: Any) -> Any:
    """By name, what is predicted and what is measured of every case that runs."""
    cudnn, attention = torch.backends.cudnn.enabled, torch.backends.cuda.cudnn_sdp_enabled()
    operators.without_cudnn_attention()
    try:
        names = operators.names()
        predicted = operators.predicted(operators.here(), names)
        measured = operators.measured(names)
    finally:
        torch.backends.cudnn.enabled = cudnn
        torch.backends.cuda.enable_cudnn_sdp(attention)
    return {name: (predicted[name], measured[name]) for name in names if not isinstance(measured[name], str)}


def test_every_event_is_predicted(operators: Any, both: Any) -> None:
    unlike = {name for name, pair in both.items() if not operators.as_known(name, pair)}
    assert not {name for name in unlike if name.split(", ")[0] not in operators.DIFFERS}
    assert len(unlike) < len(both) // 50


def test_every_peak_is_predicted(operators: Any, both: Any) -> None:
    known = {name for name, pair in both.items() if not operators.alike(*pair) and operators.as_known(name, pair)}
    peaks = {name: (operators.peak(one), operators.peak(other)) for name, (one, other) in both.items()}
    assert not {name for name, (one, other) in peaks.items() if one != other and name not in known}
    assert all(peaks[name][0] <= peaks[name][1] for name in known)


def test_only_what_torch_refuses_does_not_run(operators: Any, both: Any) -> None:
    missing = set(operators.names()) - both.keys()
    assert {name.split(", ")[0].split()[0] for name in missing} <= {"binary_cross_entropy"}  # under autocast
