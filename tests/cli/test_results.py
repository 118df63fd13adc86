"""One result that cannot be written costs nothing but itself, and the error says what there is."""

from pathlib import Path

import pytest

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
