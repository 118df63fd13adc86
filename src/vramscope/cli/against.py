"""What `estimate --against` reads, and whether it can be compared with what is predicted."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vramscope.errors import UsageError

if TYPE_CHECKING:
    from vramscope.ledger.against import Against
    from vramscope.ledger.comparison import Comparison
    from vramscope.recording.recording import Recording

SNAPSHOT_SUFFIX = ".pickle"
_MUST_AGREE = ("batch", "seq", "accumulate", "dtype", "amp", "optimizer", "checkpoint", "parameter_count")


def read_measured(path: Path, pass_name: str | None) -> "dict[str, Recording]":
    """The measured recordings by pass: of a recording, a folder of them, or a CUDA memory snapshot.

    Raises:
        RecordingError: there is none that can be read.
        UsageError: a snapshot without a pass, or a pass that is not there.
    """
    if path.suffix == SNAPSHOT_SUFFIX:
        return {_pass_of_snapshot(path, pass_name): _snapshot(path)}
    from vramscope.recording.collection import ONLY, read_passes

    found = read_passes(path)
    if pass_name is None:
        return found
    if pass_name not in found and ONLY not in found:
        raise UsageError(f"--pass {pass_name}: {path} has {' and '.join(found)}")
    return {pass_name: found.get(pass_name) or found[ONLY]}


def _pass_of_snapshot(path: Path, pass_name: str | None) -> str:
    if pass_name is None:
        raise UsageError(f"{path} is a snapshot, which does not say what ran: add --pass training or --pass inference")
    return pass_name


def _snapshot(path: Path) -> "Recording":
    from vramscope.allocator.snapshot.importer import import_snapshot
    from vramscope.allocator.snapshot.reader import read_snapshot

    return import_snapshot(read_snapshot(path))


def is_of_cpu(measured: "Mapping[str, Recording]") -> bool:
    """Whether the recordings were made on the CPU, so that its rules are the ones to predict by."""
    return all(recording.devices[0].is_cpu for recording in measured.values())


def compare_with(comparison: "Comparison", measured: "Mapping[str, Recording]") -> "dict[str, Against]":
    """Each predicted pass beside the measured one.

    Raises:
        UsageError: another batch, dtype or optimizer was measured than is predicted.
    """
    from vramscope.ledger.against import set_against
    from vramscope.ledger.ledger import Ledger

    for name, recording in measured.items():
        _check_alike(comparison.ledgers[name].recording.workload, recording.workload)
    return {name: set_against(comparison.ledgers[name], Ledger(measured[name])) for name in measured}


def _check_alike(predicted: "Mapping[str, Any]", measured: "Mapping[str, Any]") -> None:
    for key in _MUST_AGREE:
        if key in measured and measured[key] != predicted.get(key):
            raise UsageError(
                f"--against: {key.replace('_', ' ')} is {measured[key]} in the recording and {predicted.get(key)} in "
                "the prediction: predict what was recorded"
            )
