"""`vramscope experiments`, as a user runs it."""

from pathlib import Path

from command import json_of, refused, vramscope

ONE = ("experiments", "linear-collapse", "--quick")


def test_json_goes_to_standard_output_and_nothing_else(tmp_path: Path) -> None:
    document = json_of(*ONE, "--seed", "3", cwd=tmp_path)
    assert (document["schema"], document["tool"]) == ("vramscope/1", "experiments")
    assert document["settings"]["seed"] == 3


def test_a_claim_that_is_not_borne_out_is_no_failure(tmp_path: Path) -> None:
    finished = vramscope(*ONE, cwd=tmp_path)
    assert (finished.returncode, "partly" in finished.stdout) == (0, True)


def test_quiet_prints_nothing_and_out_keeps_the_figure_and_the_json(tmp_path: Path) -> None:
    finished = vramscope(*ONE, "--quiet", "-o", "kept", cwd=tmp_path)
    assert (finished.stdout, finished.stderr) == ("", "")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["experiments.json", "linear-collapse.png"]


def test_an_unknown_name_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "linear-collapse" in refused("experiments", "linear-colapse", cwd=tmp_path)


def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "mps" in refused("experiments", "--device", "mps", cwd=tmp_path)
