"""One quick run of every experiment, shared by the tests."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from vramscope.experiments.catalogue import EXPERIMENTS
from vramscope.experiments.frame import Settings

QUICK = Settings(quick=True)


@pytest.fixture(scope="session")
def measured() -> Callable[[str], Any]:
    """What an experiment measures in its quick setting, measured once."""
    return cache(lambda name: EXPERIMENTS[name].measure(QUICK, lambda _: None))
