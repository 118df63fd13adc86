import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from snapshot_builder import MIB, Program, frame, load, training_step

from vramscope.allocator.moment import MapBlock, MapSegment, PartKind
from vramscope.allocator.report import build_report
from vramscope.allocator.snapshot.model import Snapshot
from vramscope.errors import OutputError
from vramscope.views.snapshot_json import snapshot_json
from vramscope.views.snapshot_png import borders, strips, write_segment_map
from vramscope.views.snapshot_terminal import print_snapshot

GOLDEN = """\
cuda:0: peak of 6.0 MiB allocated (6,291,456 B), after entry 3 of 5 (0.000 s in)
  at most 20.0 MiB reserved (20,971,520 B)
  5 trace entries over 0.000 s

Reserved memory
                                  at the peak  in the end
requested by the program              6.0 MiB     4.0 MiB
rounding slack                          100 B       100 B
waiting for other streams                 0 B         0 B
free, can be returned                     0 B         0 B
free, stuck beside blocks in use     14.0 MiB    16.0 MiB
reserved                             20.0 MiB    20.0 MiB
largest free block                   14.0 MiB    14.0 MiB
fragmentation (stuck / reserved)        70.0%       80.0%
segments                                    1           1

What was allocated at the peak
                   bytes  blocks  known from
made in forward  4.0 MiB       1  a module's forward in the stack, no backward
made elsewhere   2.0 MiB       1  a stack that names none of the other kinds

Largest allocation sites at the peak
                    bytes  blocks
net.py:5 forward  4.0 MiB       1
run.py:9 main     2.0 MiB       1

Replay: 2 of 2 allocations at the recorded address
"""


def two_blocks(folder: Path) -> Snapshot:
    """2 MiB, and 4 MiB less 100 bytes that rounding adds again, in one segment of 20 MiB; the first is freed."""
    program = Program()
    first = program.malloc(2 * MIB, frames=[frame("main", "run.py", 9)])
    program.malloc(4 * MIB - 100, frames=[frame("forward", "net.py", 5)])
    program.free(first)
    return load(program.snapshot(), folder)


def printed(snapshot: Snapshot, verbose: bool = False) -> str:
    out = StringIO()
    print_snapshot(build_report(snapshot), Console(file=out, width=100, highlight=False), verbose)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def test_the_terminal_report(tmp_path: Path) -> None:
    # 2 + 4 MiB of 20 are 70 % free at the peak and 80 % in the end; 4 MiB - 100 shows as 4.0 MiB
    assert printed(two_blocks(tmp_path)) == GOLDEN


def test_the_json_counts_entries_as_the_terminal_does(tmp_path: Path) -> None:
    (device,) = snapshot_json(build_report(two_blocks(tmp_path)))["devices"]
    # after the second block's entry of the five; in the end all are there
    assert (device["peak"]["entry"], device["end"]["entry"]) == (3, 5)


def test_long_settings_break_between_options(tmp_path: Path) -> None:
    long, short = "expandable_segments:True,large_segment_size_mb:12", "max_split_size_mb:128"
    out = StringIO()
    print_snapshot(build_report(two_blocks(tmp_path), (long, short)), Console(file=out, width=80, highlight=False))
    words = out.getvalue().split()
    assert {"expandable_segments:True,", "large_segment_size_mb:12", short} <= set(words)


def test_what_did_not_fit_has_no_peak_and_ranks_by_how_far_it_got(tmp_path: Path) -> None:
    program = Program()
    for _ in range(3):
        program.malloc(15 * MIB)  # segments of 16 MiB; in pages of 20 MiB the second one needs 40
    report = build_report(load(program.snapshot(), tmp_path), ("expandable_segments:True",), limit_bytes=33 * MIB)
    out = StringIO()
    print_snapshot(report, Console(file=out, width=80, highlight=False))
    title, header, *rows = out.getvalue().split("The trace under")[1].split("\n\n")[0].splitlines()
    assert (title, header.split("fits")[0].strip()) == (
        " other settings, with 33.0 MiB to reserve",
        "peak reserved  above the best",
    )
    # each allocation is the entry behind that of its segment: of three, two of 16 MiB fit, or one of 20 MiB
    assert [row.split()[:3] for row in rows if row.endswith(("(as recorded)", "segments:True"))] == [
        ["no,", "entry", "6"],
        ["no,", "entry", "4"],
    ]


def test_freed_cache_is_told_where_it_made_the_trace_fit(tmp_path: Path) -> None:
    program = Program()
    program.free(program.malloc(30 * MIB))
    program.malloc(40 * MIB)  # 30 + 40 do not fit 50, but 40 do once the cached 30 are freed
    report = build_report(load(program.snapshot(), tmp_path), limit_bytes=50 * MIB)
    out = StringIO()
    print_snapshot(report, Console(file=out, width=80, highlight=False))
    assert "40.0 MiB             0 B  yes, cache freed 1x  the defaults (as recorded)" in out.getvalue()
    (recorded,) = (run for run in snapshot_json(report)["settings"] if run["as_recorded"])
    assert (recorded["retries"], recorded["made_room"]) == (1, 1)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_breaks_no_option_and_cuts_no_figure(tmp_path: Path, width: int) -> None:
    long = "expandable_segments:True,large_segment_size_mb:12"
    report = build_report(two_blocks(tmp_path), (long,), sweep=True)
    out = StringIO()
    print_snapshot(report, Console(file=out, width=width, highlight=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if line != line.rstrip()] == []
    assert {"expandable_segments:True,", "large_segment_size_mb:12"} <= set(out.getvalue().split())
    # two blocks in 20 MiB, or in pages of 12 MiB, or rounded up
    assert {"20.0 MiB reserved" if width == 40 else "20.0 MiB", "12.0 MiB"} <= {
        found for line in lines for found in ("20.0 MiB reserved", "20.0 MiB", "12.0 MiB") if found in line
    }


def test_lines_that_wrap_keep_their_margin(tmp_path: Path) -> None:
    report = build_report(two_blocks(tmp_path), limit_bytes=20 * MIB)
    out = StringIO()
    print_snapshot(report, Console(file=out, width=40, highlight=False))
    text = out.getvalue()
    assert "\n  at most 20.0 MiB reserved\n  (20,971,520 B)\n" in text
    assert re.search(r"\n  of the other settings tried, it fits\n  \S", text)


def test_sites_at_the_end_are_not_called_those_of_the_peak(tmp_path: Path) -> None:
    (device,) = snapshot_json(build_report(two_blocks(tmp_path)))["devices"]
    assert [site["bytes"] for site in device["end"]["sites"]] == [4 * MIB]
    assert [site["bytes"] for site in device["peak"]["sites"]] == [4 * MIB, 2 * MIB]


def test_one_entry_and_one_failure_are_singular(tmp_path: Path) -> None:
    failure = {"action": "oom", "size": 1 << 30, "stream": 0, "device_free": 5, "time_us": 1}
    text = printed(load({"segments": [], "device_traces": [[failure]]}, tmp_path))
    assert "1 trace entry over" in text
    assert "1 allocation failed" in text


def test_only_the_largest_sites_are_listed_unless_asked(tmp_path: Path) -> None:
    program = Program()
    for line in range(1, 14):
        program.malloc(line * 512, frames=[frame("f", "net.py", line)])
    snapshot = load(program.snapshot(), tmp_path)
    # the 13 lines hold 512 times 1 to 13; the smallest three, 512 x (1 + 2 + 3) = 3072, are summed up
    assert "3 other sites" in printed(snapshot)
    assert "3.0 KiB" in printed(snapshot)
    assert "net.py:1 f" not in printed(snapshot)
    assert "net.py:1 f" in printed(snapshot, verbose=True)


def test_the_segment_map_covers_every_byte_once() -> None:
    segments = (
        MapSegment(0, 5, (MapBlock(0, 3, PartKind.FORWARD, False), MapBlock(3, 2, None, False))),
        MapSegment(9, 4, (MapBlock(0, 4, None, True),)),
    )
    pieces = strips(segments, row_bytes=4)
    # row 0: 3 bytes of forward, 1 free; row 1: 1 free, 3 pending; row 2: 1 pending
    assert [(row, start, length) for row, start, length, _ in pieces] == [
        (0, 0, 3),
        (0, 3, 1),
        (1, 0, 1),
        (1, 1, 3),
        (2, 0, 1),
    ]
    assert borders(segments, row_bytes=4) == [(0, 0), (1, 1)]


def test_the_segment_map_is_a_png(tmp_path: Path) -> None:
    moment = build_report(load(training_step().snapshot(), tmp_path)).summary.devices[0].peak
    write_segment_map(moment, "title", tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="cannot be written"):
        write_segment_map(moment, "title", tmp_path / "none" / "map.png")
