"""A commit to a small project doubles what one module keeps: the diff and the plugin turn red, and name the module."""

import json
import shutil
from pathlib import Path

import pytest

from cli.command import vramscope
from plugin.runs import figures, run_pytest

PROJECT = Path(__file__).parents[1] / "sample_project"
BEFORE, AFTER = "return torch.tanh(x)", "return torch.tanh(torch.tanh(x))"
KEPT_BYTES = 512 * 64 * 4
"""tanh keeps its result for backward: 512 rows of 64 numbers of four bytes."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after the commit, with what was recorded before and after it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    record(folder, "before")
    run_pytest(folder, "--vramscope-save", "base.json", code=0)
    code = (folder / "model.py").read_text()
    assert BEFORE in code
    (folder / "model.py").write_text(code.replace(BEFORE, AFTER))
    record(folder, "after")
    return folder


def record(folder: Path, name: str) -> None:
    fast = ("--no-lines", "--no-host", "--steps", "1", "-q")
    finished = vramscope("compare", "model.py:build", "--input", "x=float32[512,64]", *fast, "-o", name, cwd=folder)
    assert finished.returncode == 0, finished.stderr


def test_the_diff_turns_red_and_names_the_module(project: Path) -> None:
    arguments = ("before", "after", "--pass", "training", "--fail-over", "activations:20%", "--json", "diff.json")
    finished = vramscope("diff", *arguments, cwd=project)
    assert finished.returncode == 1
    assert "most of it in module hidden" in " ".join(finished.stdout.split())
    document = json.loads((project / "diff.json").read_text())
    assert [found["module"] for found in document["regressions"]] == ["hidden"]
    grown = {change["name"]: change for change in document["changes"] if change["kind"] == "module"}
    # in backward, the gradient that a tanh passes on stands beside all that the module kept
    assert (grown["hidden"]["before_bytes"], grown["hidden"]["after_bytes"]) == (2 * KEPT_BYTES, 3 * KEPT_BYTES)


def test_other_modules_stay_green(project: Path) -> None:
    for path, code in (("hidden", 1), ("head", 0)):
        gate = ("--pass", "training", "--fail-over", f"module={path}:0")
        assert vramscope("diff", "before", "after", *gate, cwd=project).returncode == code


def test_the_plugin_turns_red_and_names_the_module(project: Path) -> None:
    gate = ("--vramscope-compare", "base.json", "--vramscope-fail-over", "activations:20%")
    text = run_pytest(project, *gate, "--vramscope-json", "now.json", code=1)
    assert "activations grew from" in text
    assert f"module 'hidden': +{KEPT_BYTES / 1024:.1f} KiB" in text
    now = figures(project / "now.json")["test_a_training_step"]
    assert now["module_peaks"]["hidden"] == 3 * KEPT_BYTES


def test_the_plugin_is_green_where_the_growth_is_allowed(project: Path) -> None:
    gate = ("--vramscope-compare", "base.json", "--vramscope-fail-over", "activations:150%")
    run_pytest(project, *gate, code=0)


def test_a_misspelt_module_is_refused(project: Path) -> None:
    gate = ("--vramscope-compare", "base.json", "--vramscope-fail-over", "module=hiden:5%")
    assert "no test of the baseline has that module" in run_pytest(project, *gate, code=4)
