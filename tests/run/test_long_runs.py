"""A run of any length is reported in memory that does not grow with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.run.synthetic import ALIVE, BLOCK_BYTES, LEAKED_BYTES, write_run

from vramscope.ledger.run import summarize_run
from vramscope.recording.file import iterate_windows

FULL = "VRAMSCOPE_TEST_LONG"
EVENTS_PER_STEP = 20_001
MEBIBYTE = 1 << 20
# ru_maxrss would count what the process that forked this one had resident
REPORT = r"""
import re, resource, sys
from pathlib import Path
from vramscope.cli.main import run
code = run(["report", sys.argv[1], "--format", "json"])
resident = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(int(resident) * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)
sys.exit(code)
"""


def reported(folder: Path, steps: int) -> tuple[dict, int]:
    """The report of a run of so many steps, and the most memory that the process had resident."""
    write_run(folder / f"{steps}.vram", steps, EVENTS_PER_STEP)
    command = [sys.executable, "-c", REPORT, str(folder / f"{steps}.vram")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_bytes, seconds = finished.stderr.split()
    print(f"{steps * EVENTS_PER_STEP:,} events: {int(peak_bytes) / MEBIBYTE:.0f} MiB, {seconds} s of CPU time")
    return json.loads(finished.stdout), int(peak_bytes)


def require_totals(document: dict, steps: int) -> None:
    found = document["passes"]["training"]
    # a hundred blocks, and what the steps before the last one have left behind
    assert found["peak"]["bytes"] == ALIVE * BLOCK_BYTES + (steps - 1) * LEAKED_BYTES
    assert found["allocator"]["events"] == steps * EVENTS_PER_STEP
    assert found["allocator"]["max_disagreement_bytes"] == 0
    assert sum(found["peak"]["by_category"].values()) == found["peak"]["bytes"]
    assert {row["retained_growth_bytes"] for row in document["steps"]} == {LEAKED_BYTES}
    assert [row["bytes_per_step"] for row in document["growth"]] == [LEAKED_BYTES]


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    short, long = 20, 60
    document, short_bytes = reported(tmp_path, short)
    require_totals(document, short)
    document, long_bytes = reported(tmp_path, long)
    require_totals(document, long)
    # three times the events, 800,000 more, would take 60 MiB as columns of the file alone
    assert long_bytes - short_bytes < 24 * MEBIBYTE
    assert long_bytes < 512 * MEBIBYTE


def calls_of(folder: Path, steps: int) -> int:
    """How many functions, Python's and C's, the summary of a run of so many steps calls."""
    write_run(folder / "run.vram", steps, EVENTS_PER_STEP)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        summarize_run(iterate_windows(folder / "run.vram"))
    finally:
        sys.setprofile(None)
    return calls


def test_work_grows_with_the_run_and_no_faster(tmp_path: Path) -> None:
    """Each chunk's work is bounded by its events, at most 200,000 (nine steps); so their number tells of the whole."""
    calls_of(tmp_path, 9)  # imports what is needed
    once, twice, four_times = (calls_of(tmp_path, 9 * chunks) for chunks in (2, 4, 8))
    # twice the steps more, twice the calls more
    assert four_times - twice == pytest.approx(2 * (twice - once), rel=0.05)


@pytest.mark.skipif(not os.environ.get(FULL), reason=f"takes a minute: set {FULL}=1")
def test_ten_million_events_fit_into_512_mebibytes(tmp_path: Path) -> None:
    document, peak_bytes = reported(tmp_path, 500)
    require_totals(document, 500)
    assert peak_bytes < 512 * MEBIBYTE


def test_windows_have_bases_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "run.vram", 6, 401, steps_per_window=3)
    summary = summarize_run(iterate_windows(tmp_path / "run.vram"))
    assert summary.windows == 2
    assert [step.index for step in summary.steps] == list(range(1, 7))
    assert summary.passes["training"].allocator.max_disagreement_bytes == 0
    assert summary.passes["training"].cold is None  # step 0 was not recorded
    assert summary.passes["training"].phases["forward"].peak_bytes == summary.passes["training"].peak.bytes
