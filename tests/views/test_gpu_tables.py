"""A GPU's tables on the terminal and in JSON, of a program that the simulator ran."""

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from tests.allocator.snapshot_builder import GIB, MIB
from tests.recorders.cuda_run import CudaRun

from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.recorders.cuda.history_joining import with_history
from vramscope.views.json import comparison_document
from vramscope.views.terminal import print_comparison

TOTAL, CONTEXT, OTHERS, DRIVER = 80 * GIB, 400 * MIB, 3 * GIB, GIB


def compared(folder: Path, process: Callable[[int], int | None]) -> Comparison:
    """One step that holds 30 MiB and 100 B; 10 MiB lie free in the cache; ``process`` is told what is reserved."""
    run = CudaRun()
    with run.step(0), run.phase("forward"), run.operator("aten::relu"):
        run.release(run.malloc(10 * MIB))
        run.malloc(30 * MIB + 100)
        reserved = run.program.simulator.totals.reserved
        run.sample(reserved + CONTEXT + OTHERS, process(reserved), TOTAL, driver=DRIVER)
    return compare_recordings({"training": with_history(run.recording(), run.history(folder), {})})


def printed(comparison: Comparison, *, verbose: bool = True) -> str:
    file = io.StringIO()
    print_comparison(comparison, Console(file=file, width=120), verbose=verbose)
    return file.getvalue()


def figures(text: str) -> dict[str, int]:
    """Bytes by row of the GPU's table."""
    lines = text.partition("Memory of cuda:0")[2].splitlines()
    rows = (line.rstrip().rpartition("  ") for line in lines if line.rstrip().endswith(" B"))
    return {name.strip(): int(value.strip().removesuffix(" B").replace(",", "")) for name, _, value in rows}


def test_the_rows_add_up_as_they_are_printed(tmp_path: Path) -> None:
    rows = figures(printed(compared(tmp_path, lambda reserved: reserved + CONTEXT)))
    assert rows["activations"] == 30 * MIB + 100
    assert rows["activations"] + rows["unattributed"] + rows["+ rounding"] == rows["= allocated"]
    assert rows["= allocated"] + rows["+ freed, waiting for a stream"] + rows["+ cached, free"] == rows["= reserved"]
    assert rows["= reserved"] + rows["+ CUDA context, kernels, libraries"] == rows["= this process in NVML"]
    assert rows["+ CUDA context, kernels, libraries"] == CONTEXT
    assert rows["= this process in NVML"] + rows["+ other processes"] == rows["= used on the device"]
    assert rows["= used on the device"] + rows["+ kept by the driver"] + rows["+ free"] == rows["= device"] == TOTAL


def test_a_share_that_is_not_known_is_one_line_with_the_rest(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, lambda reserved: None))
    rows = figures(text)
    assert "this process in NVML" not in text
    assert rows["= reserved"] + rows["+ context, libraries, other processes"] == rows["= used on the device"]


def test_figures_that_contradict_each_other_are_warned_of(tmp_path: Path) -> None:
    assert "this does not add up" in printed(compared(tmp_path, lambda reserved: MIB))
    assert "this does not add up" not in printed(compared(tmp_path, lambda reserved: reserved + CONTEXT))


def test_the_cache_at_the_peak_is_said(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, lambda reserved: reserved + CONTEXT), verbose=False)
    assert "training: at the peak" in " ".join(text.split())
    assert "largest free block" in " ".join(text.split())


def test_the_largest_blocks_of_the_peak_are_listed(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, lambda reserved: reserved + CONTEXT), verbose=False)
    below = text.partition("Largest blocks at the training peak")[2]
    assert "30.0 MiB  activations, aten::relu" in below


def test_json_has_the_fixed_keys_and_the_sum_behind_them(tmp_path: Path) -> None:
    comparison = compared(tmp_path, lambda reserved: reserved + CONTEXT)
    device = comparison_document(comparison, "compare")["passes"]["training"]["devices"][0]
    assert device["outside_allocator_bytes"] == CONTEXT
    assert device["process_used_bytes"] == device["reserved_peak_bytes"] + CONTEXT
    assert device["reconciliation"]["others_bytes"] == OTHERS
    assert device["fragmentation"]["largest_free_bytes"] >= 10 * MIB
    assert all(isinstance(device[key], int) for key in ("allocated_peak_bytes", "reserved_peak_bytes"))
