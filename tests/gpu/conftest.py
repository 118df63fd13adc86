"""These tests need a GPU; without one each is skipped, with the reason that the program itself gives."""

import pytest

from vramscope.recorders.devices import cuda_problem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    problem = cuda_problem()
    for item in items:
        if "gpu" in item.path.parts:
            item.add_marker(pytest.mark.gpu)
            if problem:
                item.add_marker(pytest.mark.skip(reason=f"no GPU: {problem}"))
