"""Host memory of one run, as one process hands it to another: a peak for every stretch between two boundaries."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np

from vramscope.errors import RecordingError
from vramscope.recording.recording import Integers


class HostKind(StrEnum):
    """What of the host's memory is measured; one run measures one kind, so that none shows up in another."""

    RSS = "rss"
    PYTHON_HEAP = "python_heap"


@dataclass(frozen=True)
class HostSamples:
    """Peaks between the boundaries of a run.

    Args:
        kind: what was measured.
        before_bytes: the same measure before the model was built.
        labels: [n] the boundaries in the order in which they were passed: ``module+ fc1``, ``phase- forward``.
        peak_bytes: [n] the highest value since the boundary before, or since the start for the first one.
        method: how it was measured, for the reader.
    """

    kind: HostKind
    before_bytes: int
    labels: tuple[str, ...]
    peak_bytes: Integers
    method: str

    def __post_init__(self) -> None:
        """Refuse a different number of labels and peaks."""
        if self.peak_bytes.dtype != np.int64 or self.peak_bytes.shape != (len(self.labels),):
            raise RecordingError(f"host memory samples: {len(self.labels)} labels, {self.peak_bytes.shape} peaks")

    def to_json(self) -> str:
        """The samples as one line of JSON; `from_json` reads it."""
        facts = {
            "kind": self.kind,
            "before_bytes": self.before_bytes,
            "labels": self.labels,
            "peak_bytes": self.peak_bytes.tolist(),
            "method": self.method,
        }
        return json.dumps(facts)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Samples written by `to_json`.

        Raises:
            RecordingError: the text is something else.
        """
        try:
            return cls._from_facts(json.loads(text))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise RecordingError(f"host memory samples cannot be read ({error}): measure again") from error

    @classmethod
    def _from_facts(cls, facts: Any) -> Self:
        return cls(
            kind=HostKind(facts["kind"]),
            before_bytes=int(facts["before_bytes"]),
            labels=tuple(map(str, facts["labels"])),
            peak_bytes=np.array(facts["peak_bytes"], dtype=np.int64),
            method=str(facts["method"]),
        )
