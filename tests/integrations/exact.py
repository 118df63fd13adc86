"""What every recorded training must keep."""

import gc
from pathlib import Path

from torch import nn

from vramscope.ledger.run import RunSummary, summarize_run
from vramscope.recorders.scripts.surroundings import is_watched
from vramscope.recording.file import iterate_windows


def require_run(summary: RunSummary | None, path: Path) -> RunSummary:
    """The summary, exact to the byte and that of the file; nothing of the session is left in the process."""
    assert summary is not None
    assert summary == summarize_run(iterate_windows(path))
    for found in summary.passes.values():
        assert sum(found.peak.by_category.values()) == found.peak.bytes == found.allocator.peak_bytes
        assert found.allocator.max_disagreement_bytes == 0
    assert not is_watched()
    return summary


def parameter_bytes(*models: nn.Module) -> int:
    """The bytes of the parameters of models."""
    return sum({id(p): p.nbytes for model in models for p in model.parameters()}.values())


def all_parameter_bytes() -> int:
    """The bytes of the parameters of all models of the process, those of other tests included."""
    return parameter_bytes(*(found for found in gc.get_objects() if issubclass(type(found), nn.Module)))
