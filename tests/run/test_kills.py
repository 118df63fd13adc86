"""``kill -9`` at random moments: the recording opens with exact sums, or is refused in one line."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.run.scripts import TRAINING, start

from vramscope.errors import RecordingError
from vramscope.ledger.run import RunSummary, summarize_run
from vramscope.recording.file import iterate_windows

KILLS = int(os.environ.get("VRAMSCOPE_TEST_KILLS", "3"))
"""200 for the whole proof, which takes a quarter of an hour; a few in every run of the tests."""
LONGEST_SECONDS = 6.0
LOOP = TRAINING + "for step, loss in train(1_000_000):\n    pass\n"


def summary_of(recording: Path) -> RunSummary | None:
    """The figures of what is left of a recording; None where it is refused, which must take one line."""
    try:
        return summarize_run(iterate_windows(recording))
    except RecordingError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("number", range(KILLS))
def test_a_random_kill_never_gives_a_wrong_total(tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    everything = ["--all"] if chance.random() < 0.7 else []
    process = start(tmp_path, LOOP, *everything)
    time.sleep(chance.uniform(0, LONGEST_SECONDS))
    process.kill()  # the supervisor: the script dies with it
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    summary = summary_of(tmp_path / "out" / "run.vram")
    if summary is None:
        return
    assert not summary.complete
    for found in summary.passes.values():
        assert sum(found.peak.by_category.values()) == found.peak.bytes == found.allocator.peak_bytes
        assert found.allocator.max_disagreement_bytes == 0
    assert [step.index for step in summary.steps] == list(
        range(summary.steps[0].index, summary.steps[0].index + len(summary.steps))
    )
