"""One quick run of every experiment, shared by the tests."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from vramscope.experiments.catalogue import EXPERIMENTS
from vramscope.experiments.frame import Settings

QUICK = Settings(quick=True)


@pytest.fixture(scope="session")
def run() -> Callable[[str], tuple[Any, list[str]]]:
    """What an experiment measures in its quick setting, measured once, and what it announced."""

    def once(name: str) -> tuple[Any, list[str]]:
        announced: list[str] = []
        return EXPERIMENTS[name].measure(QUICK, announced.append), announced

    return cache(once)


@pytest.fixture(scope="session")
def measured(run: Callable[[str], tuple[Any, list[str]]]) -> Callable[[str], Any]:
    """What an experiment measures in its quick setting, measured once."""
    return lambda name: run(name)[0]
