import json
import pickle
from pathlib import Path

import pytest
from command import json_of, refused, vramscope

from helpers import Script
from views.samples import comparison, inference, training
from vramscope.recording.file import RecordingWriter, write_recording
from vramscope.views.json import comparison_document

BINARY = {
    "html": "report.html",
    "perfetto": "report.perfetto.json",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(inference(), tmp_path / "inference.vram")
    write_recording(training(), tmp_path / "training.vram")
    return tmp_path


def test_the_json_is_that_of_the_comparison(folder: Path) -> None:
    finished = vramscope("report", ".", "--format", "json", cwd=folder)
    assert json.loads(finished.stdout) == json.loads(json.dumps(comparison_document(comparison(), "report")))


def test_the_terminal_is_the_default(folder: Path) -> None:
    finished = vramscope("report", "training.vram", cwd=folder)
    assert finished.returncode == 0
    assert "equals the allocator's own total to the byte: training 6,880 B" in finished.stdout


def test_files_go_beside_the_recording(folder: Path) -> None:
    for form, name in BINARY.items():
        finished = vramscope("report", str(folder), "--format", form, cwd=folder.parent)
        assert (finished.returncode, finished.stdout) == (0, "")
        assert f"wrote {folder / name}" in finished.stderr
        assert (folder / name).exists()
    finished = vramscope("report", "training.vram", "--format", "snapshot", cwd=folder)
    assert pickle.loads((folder / "training.pickle").read_bytes())["device_traces"]


def test_a_part_of_a_folder_is_written_under_its_own_name(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    for arguments in (
        (".", "--format", "html", "--pass", "training"),
        (".", "--format", "snapshot", "--pass", "inference"),
        (".", "--format", "png", "--pass", "inference"),
        ("training.vram", "--format", "png"),
    ):
        assert vramscope("report", *arguments, cwd=folder).returncode == 0
    pictures = {f"{name}-{kind}.png" for name in ("inference", "training") for kind in ("timeline", "peaks", "modules")}
    files = {"report-training.html", "report-inference.pickle"}
    assert {path.name for path in folder.iterdir()} == before | pictures | files


def test_pictures_go_to_a_folder(folder: Path) -> None:
    assert vramscope("report", ".", "--format", "png", "-o", "pictures", "-q", cwd=folder).returncode == 0
    for name in ("timeline.png", "peaks.png", "modules.png"):
        assert (folder / "pictures" / name).read_bytes().startswith(b"\x89PNG")


def test_there_is_no_picture_of_modules_where_there_are_none(tmp_path: Path) -> None:
    write_recording(Script().recording(), tmp_path / "plain.vram")
    assert vramscope("report", "plain.vram", "--format", "png", "-o", "pictures", cwd=tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"timeline.png", "peaks.png"}


def test_one_pass_of_a_folder(folder: Path) -> None:
    finished = vramscope("report", ".", "--format", "json", "--pass", "inference", "-o", "x.json", cwd=folder)
    assert finished.returncode == 0
    assert list(json.loads((folder / "x.json").read_text())["passes"]) == ["inference"]


def test_an_unsealed_recording_is_read_and_marked(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "training.vram")
    writer.append(training())
    for name in ("training.vram.part", "."):
        finished = vramscope("report", name, cwd=tmp_path)
        assert finished.returncode == 0
        assert "incomplete" in finished.stdout
    writer.abandon()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing.vram",), ("nothing.vram", "no such file")),
        (("empty",), ("empty", "no recording in this folder")),
        (("broken.vram",), ("broken.vram", "not a vramscope recording")),
        ((".", "--pass", "other"), ("other", "inference and training")),
        ((".", "--format", "snapshot"), ("--pass inference or --pass training",)),
        ((".", "--format", "doc"), ("doc", "terminal")),
        ((".", "-o", "x"), ("--out", "--format")),
        ((".", "--format", "html", "-o", "nowhere/x.html"), ("nowhere",)),
        ((".", "--format", "html", "-o", "-"), ("--out -", "html")),
        ((".", "--format", "png", "-o", "-"), ("--out -", "name a folder")),
        ((".", "--format", "json", "-o", "empty"), ("'empty'", "it is a folder")),
        ((".", "--format", "html", "-o", "training.vram"), ("training.vram", "it is a recording")),
        (("broken.vram", "--format", "csv", "-o", "./broken.vram"), ("the place of what it is made from",)),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    (folder / "empty").mkdir()
    (folder / "broken.vram").write_text("no")
    line = refused("report", *arguments, cwd=folder)
    for word in words:
        assert word in line
    assert {path.name for path in folder.iterdir()} == {"inference.vram", "training.vram", "empty", "broken.vram"}


def test_reports_and_diffs_need_no_torch(folder: Path) -> None:
    (folder / "without").mkdir()
    (folder / "without" / "torch.py").write_text("raise ImportError('torch is not installed')")
    for arguments in (
        ("report", "."),
        ("report", ".", "--format", "csv"),
        ("report", ".", "--format", "html"),
        ("report", ".", "--format", "perfetto"),
        ("report", "training.vram", "--format", "snapshot"),
        ("diff", ".", "."),
    ):
        path = f"{folder / 'without'}:{Path(__file__).parents[2] / 'src'}"
        finished = vramscope(*arguments, cwd=folder, PYTHONPATH=path)
        assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("command", ["report", "diff"])
def test_help_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    finished = vramscope(command, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert finished.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert not {"torch", "numpy", "matplotlib", "rich", "plotly"} & imported


def test_a_recorded_model_end_to_end(tmp_path: Path) -> None:
    document = json_of("compare", "mlp", "--no-lines", "--no-host", "--steps", "1", "-o", "out", cwd=tmp_path)
    finished = vramscope("report", "out", "--format", "json", cwd=tmp_path)
    assert json.loads(finished.stdout)["passes"] == document["passes"]
