"""Projects for the plugin's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.runs import Project


@pytest.fixture
def project_in(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Project]:
    """Makes a project of a folder."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    return lambda path: Project(path, pytester, monkeypatch)


@pytest.fixture
def project(project_in: Callable[[Path], Project], pytester: pytest.Pytester) -> Project:
    """A project without a file yet."""
    return project_in(pytester.path)
