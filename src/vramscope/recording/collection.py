"""The recordings of one run: a single one, or the passes that `compare` wrote to a folder."""

from pathlib import Path

from vramscope.errors import RecordingError
from vramscope.recording.folder import SUFFIX
from vramscope.recording.header import META
from vramscope.recording.reader import read_recording
from vramscope.recording.recording import Recording

PASSES = ("inference", "training")
"""The passes that a folder may hold, each as ``NAME.vram``."""
ONLY = "recording"
"""The name of a recording that does not say which pass it is of."""


def is_collection(path: Path) -> bool:
    """Whether a path is a folder of passes, not a recording by itself."""
    return path.is_dir() and not path.name.endswith(SUFFIX) and not (path / META).exists()


def read_passes(path: Path) -> dict[str, Recording]:
    """The recordings at a path by pass name: of a file, of an unsealed ``.vram.part``, or of a folder of passes.

    Raises:
        RecordingError: there is none, or one is cut, damaged, foreign or of a newer format.
    """
    if not is_collection(path):
        recording = read_recording(path)
        return {str(recording.workload.get("pass") or ONLY): recording}
    files = {name: path / f"{name}.vram" for name in PASSES}
    found = {name: file for name, file in files.items() if file.exists() or file.with_name(file.name + SUFFIX).exists()}
    if not found:
        raise RecordingError(
            f"{path}: no recording in this folder: choose a .vram file, or a folder with inference.vram or "
            "training.vram, as `vramscope compare -o` writes it"
        )
    return {name: read_recording(file) for name, file in found.items()}
