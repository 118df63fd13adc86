"""Reading the recordings that a command is given."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vramscope.errors import UsageError

if TYPE_CHECKING:
    from vramscope.ledger.comparison import Comparison

pass_option = click.option("--pass", "pass_name", metavar="NAME", help="Only this pass of a folder, such as training.")


def load_comparison(path: Path, pass_name: str | None = None) -> "Comparison":
    """The recordings at a path, or one of them.

    Raises:
        RecordingError: there is none that can be read.
        UsageError: the pass is not among them.
    """
    from vramscope.ledger.comparison import compare_recordings  # numpy takes long to load, and --help needs none
    from vramscope.recording.collection import read_passes

    recordings = read_passes(path)
    if pass_name is not None:
        if pass_name not in recordings:
            raise UsageError(f"--pass {pass_name}: {path} has {' and '.join(recordings)}")
        recordings = {pass_name: recordings[pass_name]}
    return compare_recordings(recordings)
