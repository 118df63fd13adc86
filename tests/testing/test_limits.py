"""What the markers take for a limit, and what they refuse."""

from typing import Any

import pytest

from vramscope.errors import UsageError
from vramscope.testing.limits import LeakLimit, MemoryLimit, parse_leak_limit, parse_memory_limit


def test_a_size_can_be_given_by_its_name() -> None:
    assert parse_memory_limit((), {"size": "5 MiB", "device": "cpu"}) == MemoryLimit(5 * 1024**2, device="cpu")
    assert parse_leak_limit((), {"size": "5 B"}) == LeakLimit(5)


@pytest.mark.parametrize("zero", ["0", " 0 ", "0 B"])
def test_nothing_needs_no_unit(zero: str) -> None:
    assert parse_leak_limit((zero,), {}) == LeakLimit(0)
    assert parse_memory_limit((zero,), {}) == MemoryLimit(0)


@pytest.mark.parametrize(
    ("arguments", "options"), [((), {}), (("1 B", "2 B"), {}), (("1 B",), {"size": "1 B"}), ((), {"size": 5})]
)
def test_there_is_one_size(arguments: tuple[str, ...], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="limit_vram takes one size as text"):
        parse_memory_limit(arguments, options)
