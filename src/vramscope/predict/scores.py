"""What predictions were held against, and how far off they were: the expected error that `estimate` names.

``scores.json`` holds the figures: of recorded steps, which tests/predict/test_medium.py predicts anew and compares, and
of published tables, which scripts/published_tables writes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files

from vramscope.recording.recording import Recording

_CONVOLUTIONS = ("aten::conv", "aten::_conv")
_RECURRENT = ("aten::lstm", "aten::gru", "aten::rnn")


class ModelKind(StrEnum):
    """What a model is mainly made of, as far as errors go."""

    TRANSFORMER = "transformer"
    CONVOLUTIONAL = "convolutional"
    RECURRENT = "recurrent"


@dataclass(frozen=True)
class Score:
    """One figure, predicted and measured; bytes. ``source`` is ``recorded`` or ``published``."""

    kind: ModelKind
    source: str
    name: str
    figure: str
    measured_bytes: int
    predicted_bytes: int

    @property
    def error(self) -> float:
        """Negative where the prediction is too low."""
        return self.predicted_bytes / self.measured_bytes - 1


def read_scores() -> tuple[Score, ...]:
    """Every figure that predictions were held against."""
    rows = json.loads(files(__package__).joinpath("scores.json").read_text(encoding="utf-8"))
    return tuple(Score(**{**row, "kind": ModelKind(row["kind"])}) for row in rows)


def kind_of(recording: Recording) -> ModelKind:
    """By the operators that ran: recurrent layers, else convolutions without attention or products of batches."""
    names = recording.strings
    if any(name.startswith(_RECURRENT) for name in names):
        return ModelKind.RECURRENT
    convolves = any(name.startswith(_CONVOLUTIONS) for name in names)
    attends = any("scaled_dot_product" in name or name == "aten::bmm" for name in names)
    return ModelKind.CONVOLUTIONAL if convolves and not attends else ModelKind.TRANSFORMER


def expected_error(kind: ModelKind, scores: Sequence[Score]) -> str:
    """What is known of the error for this kind of model, in words."""
    own = [score for score in scores if score.kind == kind]
    if not own:
        return f"unknown: no prediction of a {kind} model has been held against a measurement"
    parts = [
        _range_words([score for score in own if score.source == source], words)
        for source, words in (
            ("recorded", "figure{} of recorded steps of this kind"),
            ("published", "published figure{}"),
        )
    ]
    return "; ".join(part for part in parts if part)


def _range_words(scores: Sequence[Score], words: str) -> str:
    if not scores:
        return f"no {words.format('s')} to compare with"
    errors = sorted(score.error for score in scores)
    several = len(errors) > 1
    what = f"{len(errors)} {words.format('s' if several else '')} {'were' if several else 'was'}"
    if not any(errors):
        return f"{'all ' if several else ''}{what} predicted exactly"
    low = sum(error < 0 for error in errors)
    return f"{what} missed by {errors[0]:+.2%} to {errors[-1]:+.2%}, {low or 'none'} predicted too low"
