"""What a command refuses before it begins: empty names, results in the place of their source, idle options."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vramscope
from vramscope.cli.main import run
from vramscope.cli.output import files_of, prepare_outputs

SCRIPT = "from torch import nn\n\n\ndef model():\n    return nn.Linear(4, 4)\n"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(SCRIPT)


@pytest.mark.parametrize(
    "line",
    [
        "run --json train.py train.py",
        "compare train.py:model --json train.py",
        "compare train:model --json train.py",
        "estimate train.py:model --gpu rtx4090-24gb --json ./train.py",
        "fit train.py:model --vram 1GiB --json train.py",
        "snapshot train.py --json train.py",
    ],
)
def test_figures_never_take_the_place_of_what_they_are_made_from(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    assert "it would take the place of what it is made from; name another file" in capfd.readouterr().err
    assert Path("train.py").read_text() == SCRIPT


@pytest.mark.parametrize("name", ["compare.json", "estimate.json", "run.json", "run.rank1.json"])
def test_nor_of_the_figures_beside_a_recording(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out", name).write_text("{}")
    _record("out/loop.vram")
    for line in (
        f"report out --format csv -o out/{name}",
        f"report out/loop.vram --format csv -o out/{name}",
        f"diff train.py out/loop.vram --json out/{name}",
        f"diff out train.py --format markdown -o out/{name}",
        f"estimate mlp --against out/loop.vram --json out/{name}",
    ):
        assert run(line.split()) == 2
        assert "it would take the place of the figures of a recording beside it" in capfd.readouterr().err
    assert Path("out", name).read_text() == "{}"


def test_nor_of_a_configuration(capfd: pytest.CaptureFixture[str]) -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    assert run(["compare", "hf:model", "--json", "model/config.json"]) == 2
    assert "take the place of" in capfd.readouterr().err
    assert Path("model/config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("target", "name"), [("mlp", "config.json"), ("train.py:model", "model"), ("timm:resnet18", "timm.py")]
)
def test_a_file_that_only_looks_like_a_source_is_replaced(target: str, name: str) -> None:
    Path(name).write_text("of an earlier run")
    prepare_outputs(None, name, *files_of(target))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["diff", "", "", "--fail-over", "0%"], "'BEFORE': it is empty: name a file or folder"),
        (["report", ""], "'RECORDING': it is empty"),
        (["compare", "mlp", "-o", ""], "'--out': it is empty"),
        (["estimate", "mlp", "--against", ""], "'--against': it is empty"),
        (["compare", "mlp", "--optimizer", ""], "'--optimizer': it is empty: give a value, or leave it out"),
        (["compare", "mlp", "--batch", "9" * 20], "is not in the range 1<=x<=9223372036854775807"),
        (["experiments", "--seed", "9" * 20], "is not in the range 0<=x<=9223372036854775807"),
        (
            ["estimate", "mlp", "--gpu", "h100-80gb", "--pass", "inference", "--accumulate", "4"],
            "--accumulate does",
        ),
        (["fit", "mlp", "--vram", "1GiB", "--pass", "inference", "--checkpoint"], "--checkpoint does nothing in infer"),
        (["estimate", "mlp", "--gpu", "h100-80gb", "--pass", "inference", "--no-foreach"], "--no-foreach does"),
        (["run", "--all", "--steps", "5:8", "train.py"], "--all records what --steps 5:8 would leave out"),
        (["run", "-m"], "Option '-m' requires an argument"),
        (["estimate", "--gpu", "list", "--json", "gpus.json"], "leave --json and --out out"),
        (
            ["diff", "a", "b", "--format", "markdown", "--json", "-"],
            "the markdown view goes to standard output",
        ),
        (["fit", "mlp", "--vram", "foo"], "--vram: 'foo' is not a size"),
        (["fit", "mlp", "--vram", "1GiB", "--headroom", "-1%"], "--headroom: '-1%' is neither a size nor a share"),
        (["snapshot", "train.py", "--fits", "0"], "--fits: '0' is not a size"),
        (["snapshot", "train.py", "--replay", ""], "--replay: it is empty"),
        (["report", "loop.vram", "-q"], "-q does nothing with the terminal view"),
        (["report", "loop.vram", "--format", "html", "-v"], "-v is for the terminal view"),
        (["doctor", "-v"], "No such option"),
    ],
)
def test_what_would_do_nothing_or_something_else_is_refused(
    line: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    assert words in capfd.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["train.py"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["diff", "a", "b"], 2),
        (["compare", "nope:x"], 2),
        (["report"], 2),
        (["report", "loop.vram", "--format", "json", "-o", "loop.json"], 0),
    ],
)
def test_the_exit_code_is_the_same_where_nobody_hears_the_words(line: list[str], code: int) -> None:
    _record("loop.vram")
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run([sys.executable, "-m", "vramscope", *line], stderr=full, check=False)
    assert finished.returncode == code
    if code == 0:
        assert json.loads(Path("loop.json").read_text())["tool"] == "report"


def _record(name: str) -> None:
    with vramscope.profile() as profile:
        pass
    profile.save(name)
