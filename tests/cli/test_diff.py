import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import code_without_reader, refused, vramscope

from views.samples import ACTIVATION, inference, training
from vramscope.recording.file import write_recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``a`` and ``b`` hold both passes, b with activations twice as large; the halves have one pass only."""
    for name, activation in (("a", ACTIVATION), ("b", 2 * ACTIVATION)):
        (tmp_path / name).mkdir()
        write_recording(inference(activation), tmp_path / name / "inference.vram")
        write_recording(training(activation), tmp_path / name / "training.vram")
    (tmp_path / "half").mkdir()
    write_recording(training(), tmp_path / "half" / "training.vram")
    (tmp_path / "other_half").mkdir()
    write_recording(inference(), tmp_path / "other_half" / "inference.vram")
    write_recording(replace(training(), complete=False), tmp_path / "cut.vram")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("a", "b"), 0),
        (("a", "a", "--fail-over", "0%"), 0),
        (("a", "b", "--fail-over", "5%"), 1),
        (("b", "a", "--fail-over", "0 B"), 0),
        (("a", "b", "--fail-over", "20%", "--fail-over", "activations:20%"), 1),
        (("a", "b", "--fail-over", "module=second:0"), 1),
        (("a", "b", "--fail-over", "parameters:0"), 0),
        (("a/training.vram", "b", "--pass", "training", "--fail-over", "activations:960 B"), 0),
        (("a/inference.vram", "a/training.vram", "--fail-over", "gradients:99%"), 1),
        (("half", "a/training.vram", "--fail-over", "0%"), 0),
    ],
)
def test_exit_codes(folder: Path, arguments: tuple[str, ...], code: int) -> None:
    finished = vramscope("diff", *arguments, cwd=folder)
    assert finished.returncode == code, finished.stderr
    assert ("REGRESSION" in finished.stdout) == (code == 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "missing.vram"), ("missing.vram", "no such file")),
        (("missing", "a"), ("missing",)),
        (("a", "half"), ("no inference pass", "--pass training")),
        (("half", "a"), ("no inference pass",)),
        (("half", "other_half"), ("other_half has no training pass",)),
        (("half", "a/inference.vram"), ("inference.vram has no training pass",)),
        (("a/inference.vram", "half", "--fail-over", "99%"), ("half has no inference pass",)),
        (("half", "cut.vram", "--fail-over", "5%"), ("incomplete",)),
        (("a", "b", "--fail-over", "5 parsecs"), ("--fail-over '5 parsecs'",)),
        (("a", "b", "--fail-over", "activation:5%"), ("did you mean activations",)),
        (("a", "b", "--fail-over", "module=frist:5%"), ("did you mean first",)),
        (("a",), ("AFTER",)),
        (("a", "b", "-o", "x"), ("--out",)),
        (("a", "b", "--json", "nowhere/x.json"), ("nowhere",)),
        (("a", "b", "--json", "b/training.vram"), ("b/training.vram", "it is a recording")),
        (("a", "b", "--json", ""), ("''", "it has no name")),
    ],
)
def test_what_cannot_be_judged_is_never_a_pass(
    folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    line = refused("diff", *arguments, cwd=folder)
    for word in words:
        assert word in line


def test_json_and_markdown(folder: Path) -> None:
    finished = vramscope("diff", "a", "b", "--fail-over", "5%", "--json", "-", cwd=folder)
    assert finished.returncode == 1
    assert {found["kind"] for found in json.loads(finished.stdout)["regressions"]} == {"peak"}
    finished = vramscope("diff", "a", "b", "--format", "markdown", "-o", "x.md", "--json", "x.json", cwd=folder)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert (folder / "x.md").read_text().startswith("## Memory\n")
    assert json.loads((folder / "x.json").read_text())["tool"] == "diff"


def test_two_files_of_different_passes_are_said_to_be_so(folder: Path) -> None:
    finished = vramscope("diff", "a/inference.vram", "a/training.vram", cwd=folder)
    assert "not alike: pass inference before, training after" in finished.stdout


@pytest.mark.parametrize(("after", "code"), [("a", 0), ("b", 1)])
@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_a_reader_who_leaves_early_does_not_change_the_verdict(folder: Path, after: str, code: int, form: str) -> None:
    assert code_without_reader("diff", "a", after, "--fail-over", "5%", "--format", form, cwd=folder) == code


def test_quiet_says_nothing(folder: Path) -> None:
    finished = vramscope("diff", "a", "b", "--fail-over", "5%", "-q", cwd=folder)
    assert (finished.returncode, finished.stdout, finished.stderr) == (1, "", "")
