"""Errors a user can cause or meet. Each prints as one line and carries the exit code of the command it ends."""

from pathlib import Path


class VramscopeError(Exception):
    """Base of every expected error: what, where, why and what to do, in one line."""

    exit_code = 2


class UsageError(VramscopeError):
    """A command, option or argument that makes no sense."""


class NothingToTrainError(UsageError):
    """A training step of a model that has no parameters to train; inference it may have."""


class TargetError(VramscopeError):
    """A target that cannot be found, loaded or built."""


class WorkloadError(VramscopeError):
    """A workload that was built but fails when it runs."""


class MemoryExhaustedError(WorkloadError):
    """A workload that ran out of memory; ``recording`` is the file that holds what led there, if it was kept."""

    recording: Path | None = None


class RecordingError(VramscopeError):
    """A recording or snapshot that is cut, damaged or not ours."""


class OutputError(VramscopeError):
    """A result that cannot be written where it was asked for."""


class UnsupportedError(VramscopeError):
    """Something this machine, device or torch build cannot measure."""


def why_stopped(error: Exception) -> str:
    """Why a recording ended before its time, in words: the system refused to write it, or we are at fault."""
    if isinstance(error, OutputError):
        return f"recording stopped early: {error}"
    return f"recording stopped early through a fault of vramscope: {type(error).__name__}: {error}"
