"""One result that cannot be written costs nothing but itself, and the error says what there is."""

from pathlib import Path

import pytest
from tests.views.samples import inference, training

from vramscope.cli.results import Results, text_writer
from vramscope.errors import OutputError


def full(path: Path) -> None:
    raise OutputError(f"cannot write {path}: No space left on device; free some space")


def test_what_follows_a_failure_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = Results()
    writers = {"a.vram": text_writer("a"), "b.png": full, "c.json": text_writer("c"), "d.png": full}
    results.write_folder(Path("out"), writers)
    results.write_json("figures.json", "{}")
    with pytest.raises(OutputError) as failure:
        results.check()
    assert str(failure.value) == (
        "cannot write out/b.png: No space left on device; free some space; missing too: out/d.png; "
        "kept: out/a.vram, out/c.json, figures.json"
    )
    assert {path.name for path in Path("out").iterdir()} == {"a.vram", "c.json"}


def test_a_folder_that_cannot_be_made_waits_as_well(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    results = Results()
    results.write_folder(tmp_path / "file", {"a.vram": text_writer("a")})
    with pytest.raises(OutputError, match="cannot make the folder"):
        results.check()


def test_where_all_went_well_nothing_is_raised(tmp_path: Path) -> None:
    results = Results()
    results.write_folder(None, {})
    results.write_folder(tmp_path, {"a.vram": text_writer("a")})
    results.write_json(None, "{}")
    results.check()
    assert [path.name for path in tmp_path.iterdir()] == ["a.vram"]


def test_recordings_replace_older_ones_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    older = {"inference.vram": "a", "training.vram": "b", "compare.json": "c"}
    Path("out").mkdir()
    for name, text in older.items():
        Path("out", name).write_text(text)
    Path("out/training.vram.part").write_text("in the way")
    results = Results()
    passes = {"inference": inference(), "training": training()}
    results.write_comparison(Path("out"), passes, {"compare.json": text_writer("new"), "peaks.png": text_writer("new")})
    results.write_json("figures.json", "{}")
    with pytest.raises(OutputError) as failure:
        results.check()
    assert str(failure.value) == (
        "out/training.vram: cannot be written (file exists): choose another name; missing too: out/inference.vram, "
        "out/compare.json, out/peaks.png; what was in out before stays as it was; kept: figures.json"
    )
    Path("out/training.vram.part").unlink()
    assert {path.name: path.read_text() for path in Path("out").iterdir()} == older


def test_in_a_fresh_folder_the_figures_come_without_the_recordings(tmp_path: Path) -> None:
    (tmp_path / "inference.vram.part").write_text("in the way")
    results = Results()
    results.write_comparison(tmp_path, {"inference": inference()}, {"compare.json": text_writer("new")})
    with pytest.raises(OutputError, match=r"inference\.vram: cannot be written .*; kept: .*compare\.json"):
        results.check()
    assert {path.name for path in tmp_path.iterdir()} == {"inference.vram.part", "compare.json"}


def test_a_pass_that_there_is_no_more_goes_when_the_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "training.vram").write_text("older")
    (tmp_path / "inference.vram.part").write_text("in the way")
    results = Results()
    results.write_comparison(tmp_path, {"inference": inference()}, {})
    with pytest.raises(OutputError):
        results.check()
    assert (tmp_path / "training.vram").read_text() == "older"
    (tmp_path / "inference.vram.part").unlink()
    results = Results()
    results.write_comparison(tmp_path, {"inference": inference()}, {})
    results.check()
    assert [path.name for path in tmp_path.iterdir()] == ["inference.vram"]


def test_a_pass_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / "training.vram").mkdir()
    results = Results()
    results.write_comparison(tmp_path, {"inference": inference()}, {})
    with pytest.raises(OutputError, match=r"cannot remove .*training\.vram, of an older comparison: .*; kept: "):
        results.check()
