"""These tests need a GPU; without one each is skipped, with the reason that the program itself gives."""

from pathlib import Path

import pytest

from vramscope.recorders.devices import cuda_problem

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook is told of all others too."""
    own = [item for item in items if item.path.is_relative_to(HERE)]
    problem = cuda_problem() if own else ""
    for item in own:
        item.add_marker(pytest.mark.gpu)
        if problem:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {problem}"))
