"""Reading the recordings that a command is given."""

from pathlib import Path

import click

from vramscope.errors import UsageError
from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.recording.collection import read_passes

pass_option = click.option("--pass", "pass_name", metavar="NAME", help="Only this pass of a folder, such as training.")


def load_comparison(path: Path, pass_name: str | None = None) -> Comparison:
    """The recordings at a path, or one of them.

    Raises:
        RecordingError: there is none that can be read.
        UsageError: the pass is not among them.
    """
    recordings = read_passes(path)
    if pass_name is not None:
        if pass_name not in recordings:
            raise UsageError(f"--pass {pass_name}: {path} has {' and '.join(recordings)}")
        recordings = {pass_name: recordings[pass_name]}
    return compare_recordings(recordings)
