"""What commands say of the options that they share."""

import pytest
from click.testing import CliRunner

from vramscope.cli.main import cli


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compare", "and what the workload itself prints"),
        ("estimate", "Every figure in bytes"),
        ("fit", "Every size that was predicted"),
        ("run", "Every figure in bytes"),
        ("report", "Every figure in bytes"),
        ("snapshot", "Every place that allocated"),
        ("doctor", None),
    ],
)
def test_verbose_is_described_for_each_command(command: str, words: str | None) -> None:
    said = " ".join(CliRunner().invoke(cli, [command, "--help"], terminal_width=100).output.split())
    described = said.partition("-v, --verbose ")[2].partition(" --debug")[0]
    assert (words in described) if words else (described == "")
