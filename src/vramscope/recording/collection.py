"""The recordings of one run: a single one, the passes that `compare` wrote to a folder, or the ranks of a script."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vramscope.errors import RecordingError
from vramscope.recording.folder import SUFFIX
from vramscope.recording.header import META
from vramscope.recording.reader import iterate_windows, read_recording
from vramscope.recording.recording import Recording

PASSES = ("inference", "training")
"""The passes that a folder may hold, each as ``NAME.vram``."""
RUN = "run"
"""The name of a script's recording in a folder, and the tool that it says made it."""
_OF_RANK = re.compile(r"(.+)\.rank(\d+)\.vram")
SNAPSHOT = "snapshot"
"""The name of an imported snapshot in a folder."""
ONLY = "recording"
"""The name of a recording that does not say which pass it is of."""


def pass_name(recording: Recording) -> str:
    """The pass that a recording says it is of, or what it is called where it says none."""
    return str(recording.workload.get("pass") or ONLY)


def is_collection(path: Path) -> bool:
    """Whether a path is a folder of passes, not a recording by itself."""
    return path.is_dir() and not path.name.endswith(SUFFIX) and not (path / META).exists()


def find_run(path: Path) -> dict[int, Path]:
    """The recordings that `vramscope run` left at a path, by rank; empty where there is something else.

    A folder may hold ``run.vram``, or one recording per rank, sealed or not; ranks beyond the number that the
    recordings name are left over from an older run and passed over.

    Raises:
        RecordingError: a recording cannot be read, or the folder holds those of several programs.
    """
    if is_collection(path):
        return _run_in(path)
    facts = _facts(path)
    return {int(facts.get("rank", 0)): path} if facts.get("tool") == RUN else {}


def _run_in(folder: Path) -> dict[int, Path]:
    names = {entry.name.removesuffix(SUFFIX) for entry in folder.iterdir()}
    ranked: dict[str, dict[int, Path]] = {}
    for match in filter(None, map(_OF_RANK.fullmatch, sorted(names))):
        ranked.setdefault(match[1], {})[int(match[2])] = folder / match[0]
    alone = [folder / f"{RUN}.vram"] if f"{RUN}.vram" in names else []
    passes = [name for name in PASSES if f"{name}.vram" in names]
    if len(ranked) + len(alone) + bool(passes) > 1:
        found = [*(f"{stem}.rank*.vram" for stem in ranked), *(file.name for file in alone), *passes]
        raise RecordingError(f"{folder}: it holds {' and '.join(found)}: choose one of the files")
    files = next(iter(ranked.values()), dict(enumerate(alone)))
    return _readable(files)


def _readable(files: Mapping[int, Path]) -> dict[int, Path]:
    """Without the ranks that stored nothing, and those of an older run; if nothing is left, the first says why."""
    facts: dict[int, Mapping[str, Any]] = {}
    refused: list[RecordingError] = []
    for rank, file in files.items():
        try:
            facts[rank] = _facts(file)
        except RecordingError as error:
            refused.append(error)
    if refused and not facts:
        raise refused[0]
    newest = max(facts, key=lambda rank: _changed(files[rank]), default=0)
    ranks = int(facts[newest].get("ranks", 1)) if facts else 0
    return {rank: files[rank] for rank in sorted(facts) if rank < ranks}


def _changed(file: Path) -> int:
    return (file if file.exists() else file.with_name(file.name + SUFFIX)).stat().st_mtime_ns


def _facts(path: Path) -> Mapping[str, Any]:
    """What the first part of a recording says of its workload."""
    return next(iterate_windows(path)).recording.workload


def read_passes(path: Path) -> dict[str, Recording]:
    """The recordings at a path by pass name: of a file, of an unsealed ``.vram.part``, or of a folder of passes.

    Raises:
        RecordingError: there is none, or one is cut, damaged, foreign or of a newer format.
    """
    if not is_collection(path):
        recording = read_recording(path)
        return {pass_name(recording): recording}
    files = {name: path / f"{name}.vram" for name in PASSES}
    found = {name: file for name, file in files.items() if file.exists() or file.with_name(file.name + SUFFIX).exists()}
    if not found and (alone := path / f"{SNAPSHOT}.vram").exists():
        recording = read_recording(alone)
        return {pass_name(recording): recording}
    if not found:
        raise RecordingError(
            f"{path}: no recording in this folder: choose a .vram file, or a folder with inference.vram or "
            "training.vram, as `vramscope compare -o` writes it"
        )
    return {name: read_recording(file) for name, file in found.items()}
