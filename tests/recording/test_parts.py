"""Parts of one recording: how they are joined, read one by one, and read before the recording is sealed."""

import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vramscope.errors import RecordingError
from vramscope.recording.file import RecordingWriter, iterate_parts, iterate_windows, read_recording
from vramscope.recording.recording import UNKNOWN, Device, MarkKind, Marks, Recording, Seeds, Source

from .samples import TABLES, assert_same, recordings, spelled_out, step_recording

HELD = (MarkKind.PARAMETER, MarkKind.BUFFER, MarkKind.GRADIENT, MarkKind.OPTIMIZER_STATE)


def write_parts(path: Path, parts: list[Recording], windows: list[int] | None = None) -> None:
    with RecordingWriter(path) as writer:
        for index, part in enumerate(parts):
            writer.append(part, window=windows[index] if windows else 0)


def write_unsealed(path: Path, parts: list[Recording]) -> Path:
    """The folder that is left where a process that appended these parts is killed."""
    writer = RecordingWriter(path)
    for part in parts:
        writer.append(part)
    return path.with_name(path.name + ".part")


@settings(max_examples=40)
@given(st.lists(recordings(Source.SNAPSHOT), min_size=2, max_size=4))
def test_rows_of_all_parts_stand_one_after_another(parts: list[Recording]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.vram"
        write_parts(path, parts)
        merged = spelled_out(read_recording(path))
    expected: dict[str, list[object]] = {name: [] for name in TABLES}
    scopes, known, told, named = 0, set(), set(), set()
    for part in parts:
        rows = spelled_out(part, scopes)
        marks = [row for row in rows["marks"] if row["kind"] in HELD]
        of_model = [(row["kind"], row["name"], row["owner"]) for row in marks]
        held = {(row["device"], row["address"]) for row, name in zip(marks, of_model, strict=True) if name not in named}
        held -= told
        named |= set(of_model)
        rows["seeds"] = [r for r in rows["seeds"] if r["device"] not in known or (r["device"], r["address"]) in held]
        told |= {(row["device"], row["address"]) for name in ("seeds", "events") for row in rows[name]}
        for name in TABLES:
            expected[name] += rows[name]
        scopes += len(part.scopes)
        known |= {device.name for device in part.devices}
    assert merged == expected


def test_equal_names_are_one_string(tmp_path: Path):
    write_parts(tmp_path / "a.vram", [step_recording(0), step_recording(1)])
    assert read_recording(tmp_path / "a.vram").strings == ("step 0", "layer.weight", "rss", "step 1")


def test_a_device_spans_from_its_first_start_to_its_last_end(tmp_path: Path):
    first, second = step_recording(0), step_recording(1)
    gpu = Device("cuda:0", "a GPU", 70, 80)
    first = replace(first, devices=(Device("cpu", "a CPU", 5, 0),))
    second = replace(second, devices=(gpu, Device("cpu", "named anew", 0, 9)), events=first.events, marks=first.marks)
    write_parts(tmp_path / "a.vram", [first, second])
    assert read_recording(tmp_path / "a.vram").devices == (Device("cpu", "a CPU", 5, 9), gpu)


def test_seeds_of_later_parts_are_not_counted_again(tmp_path: Path):
    gpu = Device("cuda:0", "a GPU", 0, 0)
    second = step_recording(1)
    seeds = Seeds.from_rows([(512, 256, 250, 0, -1), (1024, 64, 64, 1, -1)])
    second = replace(second, devices=(*second.devices, gpu), seeds=seeds)
    write_parts(tmp_path / "a.vram", [step_recording(0), second])
    # the CPU's block is the first part's; the GPU is only in the second part, and so are its seeds
    read = read_recording(tmp_path / "a.vram").seeds
    assert (read.address.tolist(), read.size.tolist(), read.device.tolist()) == ([512, 1024], [256, 64], [0, 1])


@pytest.mark.parametrize(("window", "kept"), [(0, [512, 8192]), (1, [512])], ids=["same window", "next window"])
def test_what_a_model_holds_is_a_seed_though_a_later_part_is_the_first_to_know(
    tmp_path: Path, window: int, kept: list[int]
):
    second = step_recording(1)
    seeds = Seeds.from_rows([(address, 64, 64, 0, UNKNOWN) for address in (512, 4096, 8192, 9000, 9500)])
    late = len(second.strings)
    # 4096 is a block of the first part's events, at 9000 is no parameter, at 9500 one that was elsewhere before
    held = ((4096, 0, late), (8192, 0, late), (9000, MarkKind.INPUT, late), (9500, 0, 1))
    rows = [(1000, address, kind, name, name, 64, 0) for address, kind, name in held]
    strings = (*second.strings, "late.weight")
    second = replace(second, seeds=seeds, marks=Marks.from_rows(rows), strings=strings)
    write_parts(tmp_path / "a.vram", [step_recording(0), second], windows=[0, window])
    assert read_recording(tmp_path / "a.vram").seeds.address.tolist() == kept


def test_a_later_part_may_be_the_one_that_finds_a_block_gone(tmp_path: Path):
    earlier = Seeds.from_rows([(a, 64, 64, 0, gone) for a, gone in ((512, UNKNOWN), (600, 30), (700, UNKNOWN))])
    later = Seeds.from_rows([(a, 64, 64, 0, gone) for a, gone in ((512, 2000), (600, 2500))])
    parts = [replace(step_recording(step), seeds=seeds) for step, seeds in enumerate((earlier, later))]
    write_parts(tmp_path / "a.vram", parts)
    assert read_recording(tmp_path / "a.vram").seeds.gone_ns.tolist() == [2000, 30, UNKNOWN]


def test_notes_of_parts_are_joined_and_said_once(tmp_path: Path):
    parts = [replace(step_recording(i), notes=notes) for i, notes in enumerate([("a", "b"), ("b", "c"), ("a",)])]
    write_parts(tmp_path / "a.vram", parts)
    assert read_recording(tmp_path / "a.vram").notes == ("a", "b", "c")


def test_one_incomplete_part_makes_the_recording_incomplete(tmp_path: Path):
    write_parts(tmp_path / "a.vram", [step_recording(0), replace(step_recording(1), complete=False), step_recording(2)])
    assert not read_recording(tmp_path / "a.vram").complete


@pytest.mark.parametrize(
    ("start", "windows", "notes"),
    [
        (0, [0, 0], ()),
        (192, [0, 0], ("the total of cpu changed by 192 bytes before part 1: events are missing",)),
        (192, [0, 1], ()),
        (UNKNOWN, [0, 0], ()),
    ],
    ids=["continued", "a gap", "another window", "not reported"],
)
def test_a_gap_between_parts_of_one_window_is_told(
    tmp_path: Path, start: int, windows: list[int], notes: tuple[str, ...]
):
    # step 0 ends with as many frees as allocations: its end total is 0
    second = replace(step_recording(1), devices=(Device("cpu", "a CPU", start, start),))
    write_parts(tmp_path / "a.vram", [step_recording(0), second], windows)
    assert read_recording(tmp_path / "a.vram").notes == ("made by hand", *notes)


def test_parts_are_read_one_by_one_with_their_window_and_totals(tmp_path: Path):
    parts = [step_recording(step, start_total=1000 * step) for step in range(3)]
    write_parts(tmp_path / "a.vram", parts, [0, 0, 7])
    found = list(iterate_windows(tmp_path / "a.vram"))
    assert [(part.index, part.window) for part in found] == [(0, 0), (1, 0), (2, 7)]
    for part, expected in zip(found, parts, strict=True):
        assert_same(part.recording, expected)


def test_reading_part_by_part_holds_two_parts_at_most(tmp_path: Path):
    # ten parts of 20,000 events: 64 bytes a row, 12.8 MB in all; decoding one part takes a few copies of its 1.28 MB
    write_parts(tmp_path / "a.vram", [step_recording(step, events=20_000) for step in range(10)])
    tracemalloc.start()
    try:
        events = sum(len(part.events) for part in iterate_parts(tmp_path / "a.vram"))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert events == 200_000
    assert peak_bytes < 6 * 1_280_000


def test_an_unsealed_folder_is_read_by_either_name(tmp_path: Path):
    folder = write_unsealed(tmp_path / "a.vram", [step_recording(0), step_recording(1)])
    by_folder, by_file = read_recording(folder), read_recording(tmp_path / "a.vram")
    assert_same(by_folder, by_file)
    assert not by_file.complete
    assert by_file.notes == (
        "made by hand",
        "this recording was never sealed: 2 whole parts were read, and what came after is missing",
    )
    assert len(by_file.events) == 12


def test_parts_of_an_unsealed_folder_are_incomplete_and_the_last_says_so(tmp_path: Path):
    folder = write_unsealed(tmp_path / "a.vram", [step_recording(0), step_recording(1)])
    first, last = iterate_parts(folder)
    assert (first.complete, first.notes) == (False, ("made by hand",))
    assert_same(replace(last, complete=True, notes=last.notes[:-1]), step_recording(1))
    assert last.notes[-1].startswith("this recording was never sealed: 2 whole parts")


def test_a_sealed_file_is_preferred_to_a_folder(tmp_path: Path):
    write_parts(tmp_path / "a.vram", [step_recording(0)])
    write_unsealed(tmp_path / "a.vram", [step_recording(1)])
    assert_same(read_recording(tmp_path / "a.vram"), step_recording(0))


@pytest.mark.parametrize("missing", ["part-00001.npz", "part-00001.json"])
def test_parts_behind_a_missing_one_are_left_out(tmp_path: Path, missing: str):
    folder = write_unsealed(tmp_path / "a.vram", [step_recording(step) for step in range(4)])
    (folder / missing).unlink()
    recording = read_recording(folder)
    assert len(recording.events) == 6
    assert recording.notes[-1] == (
        "this recording was never sealed: 1 whole part was read, and what came after is missing"
        "; part 1 is damaged, so it and those behind it were left out"
    )


def test_a_folder_without_a_whole_part_is_refused(tmp_path: Path):
    folder = write_unsealed(tmp_path / "a.vram", [step_recording()])
    (folder / "part-00000.json").unlink()
    with pytest.raises(RecordingError, match=r"a\.vram: it holds no whole part, so nothing of it can be read"):
        read_recording(tmp_path / "a.vram")


def test_a_folder_that_is_sealed_while_it_is_read_is_refused(tmp_path: Path):
    writer = RecordingWriter(tmp_path / "a.vram")
    for step in range(3):
        writer.append(step_recording(step))
    reader = iterate_parts(tmp_path / "a.vram.part")
    next(reader)
    writer.seal()
    with pytest.raises(RecordingError, match=r"a\.vram\.part: a part of it vanished while it was read: read it again"):
        list(reader)


def test_a_folder_that_is_being_removed_while_it_is_read_is_refused(tmp_path: Path):
    folder = write_unsealed(tmp_path / "a.vram", [step_recording(step) for step in range(4)])
    reader = iterate_parts(folder)
    next(reader)
    # what sealing and abandoning do, in their order; parts 0 and 1 alone would pass for a recording of two steps
    for name in ("meta.json", "part-00002.json", "part-00002.npz", "part-00003.json"):
        (folder / name).unlink()
    with pytest.raises(RecordingError, match="it was sealed or removed while it was read: read it again"):
        list(reader)
