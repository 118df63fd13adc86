"""Random command lines end with a documented exit code, say something where it is 2, and never show a traceback."""

import os
import random
from pathlib import Path

import click
import pytest

from vramscope.cli.main import COMMANDS, LazyCommands, run

CASES = int(os.environ.get("VRAMSCOPE_TEST_ARGUMENTS", "80"))
"""How many command lines are tried."""
JUNK = (
    "", "-", "--", "\n", "🧨", "\u202eoffer", "../..", "/dev/null", "/dev/full", ".", "none.vram", "nan", "-1", "0",
    "1e400", "9" * 40, "5 parsecs", "24GiB", "module=", ":5%", "x=float32[", "x=float32[2,3]", "x=y[1]", "hf:", "timm:",
    "torchvision:", "hf:./nowhere", "no.such:f", "file.py:", ":f", "mlpp", "adam:lr=", "sgd:momentum=x", "cuda:99",
    "mps", "bfloat16", "float7", "rtx4090-24gb", "rtx", "expandable_segments:Maybe", "a" * 300, "%s%n", "{0.__class__}",
)  # fmt: skip
DOCUMENTED = {0, 1, 2, 130}
NEVER_RUN = {"experiments"}
"""Without a wrong word it works for minutes: it only ever gets wrong ones."""


def options_of(name: str) -> list[str]:
    command = LazyCommands().get_command(click.Context(LazyCommands()), name)
    assert command is not None
    return [
        word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts) if word[0] == "-"
    ]


def command_line(number: int) -> list[str]:
    """A command with up to six of its own options and values, some of them right."""
    choose = random.Random(number)
    name = choose.choice([*COMMANDS, "compar", ""])
    if name not in COMMANDS:
        return [name, choose.choice(JUNK)]
    words = [choose.choice(JUNK)] if choose.random() < 0.8 else []
    for _ in range(choose.randrange(6)):
        words.append(choose.choice([*options_of(name), "--no-such-option"]))
        words += [choose.choice(JUNK)] if choose.random() < 0.8 else []
    return [name, "no-such-experiment", *words] if name in NEVER_RUN else [name, *words]


@pytest.mark.parametrize("number", range(CASES))
def test_a_random_command_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = command_line(number)
    code = run(line)
    printed = capfd.readouterr()
    assert code in DOCUMENTED, (line, printed.err)
    if "--debug" not in line:
        assert "Traceback" not in printed.out + printed.err, line
    if code == 2:
        assert printed.err.strip(), line


@pytest.mark.parametrize("device", ["/dev/full", "/dev/zero"])
def test_a_script_that_never_ends_is_not_read(device: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["run", device]) == 2
    assert f"{device} is a device that never ends" in capfd.readouterr().err
