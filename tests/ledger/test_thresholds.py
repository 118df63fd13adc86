"""What `--fail-over` understands, and what it allows."""

from decimal import Decimal

import pytest

from vramscope.errors import UsageError
from vramscope.ledger.thresholds import Figure, parse_threshold


@pytest.mark.parametrize(
    ("text", "figure", "name", "percent", "size_bytes"),
    [
        ("5%", Figure.PEAK, "peak", Decimal(5), 0),
        ("peak:0.5%", Figure.PEAK, "peak", Decimal("0.5"), 0),
        ("activations:20MiB", Figure.CATEGORY, "activations", None, 20 * 1024**2),
        ("module=blocks.0.mlp:0", Figure.MODULE, "blocks.0.mlp", None, 0),
        ("module=:1 KB", Figure.MODULE, "", None, 1000),
        ("module=odd:name:5%", Figure.MODULE, "odd:name", Decimal(5), 0),
    ],
)
def test_a_threshold_is_read(text: str, figure: Figure, name: str, percent: Decimal | None, size_bytes: int) -> None:
    threshold = parse_threshold(text)
    assert (threshold.figure, threshold.name) == (figure, name)
    assert (threshold.percent, threshold.size_bytes) == (percent, size_bytes)


@pytest.mark.parametrize(
    "text", ["", "5", "%", "-5%", "5 parsecs", "peak:5 MBs of junk", "peak:", "5%%", "1e3%", "nan%"]
)
def test_a_malformed_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="neither a percentage"):
        parse_threshold(text)


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean activations"):
        parse_threshold("activation:5%")


@pytest.mark.parametrize(
    ("text", "before", "allowed"),
    [
        ("5%", 1000, 1050),
        ("5%", 10, 10),  # half a byte is no byte
        ("5%", 0, 0),  # growth from nothing is a regression for any percentage
        ("3 B", 0, 3),
        ("0.1%", 10**15 + 10**3, 10**15 + 10**3 + 10**12 + 1),  # exact where a float would round
    ],
)
def test_what_is_allowed(text: str, before: int, allowed: int) -> None:
    assert parse_threshold(text).allowed_bytes(before) == allowed
