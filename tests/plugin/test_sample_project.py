"""A commit to a small project doubles what one module keeps: the diff and the plugin turn red, and name the module."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.command import vramscope
from plugin.runs import Project, figures

SOURCE = Path(__file__).parents[1] / "sample_project"
BEFORE, AFTER = "return torch.tanh(x)", "return torch.tanh(torch.tanh(x))"
KEPT_BYTES = 512 * 64 * 4
"""tanh keeps its result for backward: 512 rows of 64 numbers of four bytes."""


@pytest.fixture(scope="module")
def folders() -> list[Path]:
    """The project's folder, once it is there: its preparation takes long, and serves every test here."""
    return []


@pytest.fixture
def project(
    folders: list[Path], tmp_path_factory: pytest.TempPathFactory, project_in: Callable[[Path], Project]
) -> Project:
    """The project after the commit, with what was recorded before and after it."""
    if not folders:
        made = project_in(tmp_path_factory.mktemp("project"))
        prepare(made)
        folders.append(made.path)
    return project_in(folders[0])


def prepare(project: Project) -> None:
    shutil.copytree(SOURCE, project.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    record(project.path, "before")
    project.run("--vramscope-save", "base.json", code=0)
    code = (project.path / "model.py").read_text()
    assert BEFORE in code
    project.write("model.py", code.replace(BEFORE, AFTER))
    record(project.path, "after")


def record(folder: Path, name: str) -> None:
    fast = ("--no-lines", "--no-host", "--steps", "1", "-q")
    finished = vramscope("compare", "model.py:build", "--input", "x=float32[512,64]", *fast, "-o", name, cwd=folder)
    assert finished.returncode == 0, finished.stderr


def test_the_diff_turns_red_and_names_the_module(project: Project) -> None:
    arguments = ("before", "after", "--pass", "training", "--fail-over", "activations:20%", "--json", "diff.json")
    finished = vramscope("diff", *arguments, cwd=project.path)
    assert finished.returncode == 1
    assert "most of it in module hidden" in " ".join(finished.stdout.split())
    document = json.loads((project.path / "diff.json").read_text())
    assert [found["module"] for found in document["regressions"]] == ["hidden"]
    grown = {change["name"]: change for change in document["changes"] if change["kind"] == "module"}
    # in backward, the gradient that a tanh passes on stands beside all that the module kept
    assert (grown["hidden"]["before_bytes"], grown["hidden"]["after_bytes"]) == (2 * KEPT_BYTES, 3 * KEPT_BYTES)


def test_other_modules_stay_green(project: Project) -> None:
    for path, code in (("hidden", 1), ("head", 0)):
        gate = ("--pass", "training", "--fail-over", f"module={path}:0")
        assert vramscope("diff", "before", "after", *gate, cwd=project.path).returncode == code


def test_the_plugin_turns_red_and_names_the_module(project: Project) -> None:
    gate = ("--vramscope-compare", "base.json", "--vramscope-fail-over", "activations:20%")
    text = project.run(*gate, "--vramscope-json", "now.json", code=1)
    assert "activations grew from" in text
    assert f"module 'hidden': +{KEPT_BYTES / 1024:.1f} KiB" in text
    now = figures(project.path / "now.json")["test_a_training_step"]
    assert now["module_peaks"]["hidden"] == 3 * KEPT_BYTES


def test_the_plugin_is_green_where_the_growth_is_allowed(project: Project) -> None:
    gate = ("--vramscope-compare", "base.json", "--vramscope-fail-over", "activations:150%")
    project.run(*gate, code=0)


def test_a_misspelt_module_is_refused(project: Project) -> None:
    gate = ("--vramscope-compare", "base.json", "--vramscope-fail-over", "module=hiden:5%")
    assert "no test of the baseline has that module" in project.run(*gate, code=4)
