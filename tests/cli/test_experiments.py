"""`vramscope experiments`, as a user runs it."""

import json
from pathlib import Path

from command import json_of, refused, vramscope

ONE = ("experiments", "linear-collapse", "--quick")


def test_json_goes_to_standard_output_and_nothing_else(tmp_path: Path) -> None:
    document = json_of(*ONE, cwd=tmp_path)
    assert (document["schema"], document["tool"]) == ("vramscope/1", "experiments")


def test_a_claim_that_is_not_borne_out_is_no_failure(tmp_path: Path) -> None:
    finished = vramscope(*ONE, cwd=tmp_path)
    assert (finished.returncode, "partly" in finished.stdout) == (0, True)


def test_out_keeps_the_figure_and_the_json(tmp_path: Path) -> None:
    vramscope(*ONE, "-q", "-o", "kept", cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["experiments.json", "linear-collapse.png"]


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    finished = vramscope(*ONE, "--quiet", cwd=tmp_path)
    assert (finished.stdout, finished.stderr) == ("", "")


def test_the_seed_is_told(tmp_path: Path) -> None:
    vramscope(*ONE, "-q", "--seed", "3", "--json", "out.json", cwd=tmp_path)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["settings"]["seed"] == 3


def test_an_unknown_name_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "linear-collapse" in refused("experiments", "linear-colapse", cwd=tmp_path)


def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "mps" in refused("experiments", "--device", "mps", cwd=tmp_path)
