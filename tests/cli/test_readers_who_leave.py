"""`… | head`: the exit code is that of the whole result, however much of it was read. `diff` has tests of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import code_without_reader, vramscope
from tests.allocator.snapshot_builder import MIB, Program, write

FORMS = pytest.mark.parametrize("form", [(), ("--json", "-")])
ONE_STEP = ("--pass", "inference", "--steps", "1")


@FORMS
@pytest.mark.parametrize(("limit", "code"), [("16MiB", 0), ("15MiB", 1)])
def test_whether_a_snapshot_fits(tmp_path: Path, limit: str, code: int, form: tuple[str, ...]) -> None:
    program = Program()
    program.malloc(15 * MIB)  # a segment of 16 MiB
    write(program.snapshot(), tmp_path / "one.pickle")
    assert code_without_reader("snapshot", "one.pickle", "--fits", limit, *form, cwd=tmp_path) == code


@FORMS
@pytest.mark.parametrize(("memory", "code"), [("1GiB", 0), ("300MiB", 1)])
def test_whether_a_batch_fits(tmp_path: Path, memory: str, code: int, form: tuple[str, ...]) -> None:
    assert code_without_reader("fit", "mlp", "--vram", memory, *ONE_STEP, *form, cwd=tmp_path) == code


@FORMS
def test_what_a_gpu_would_use(tmp_path: Path, form: tuple[str, ...]) -> None:
    assert code_without_reader("estimate", "mlp", "--gpu", "t4-16gb", *ONE_STEP, *form, cwd=tmp_path) == 0


def test_a_recording_in_every_form_without_a_reader_or_an_output(tmp_path: Path) -> None:
    assert vramscope("compare", "mlp", "--no-lines", "--no-host", "-q", "-o", "out", cwd=tmp_path).returncode == 0
    for form in ("terminal", "json", "csv"):
        assert code_without_reader("report", "out", "--format", form, cwd=tmp_path) == 0
        closed = ["bash", "-c", f"{sys.executable} -m vramscope report out --format {form} >&-"]
        finished = subprocess.run(closed, cwd=tmp_path, stderr=subprocess.PIPE, timeout=300, check=False)
        assert (finished.returncode, finished.stderr) == (0, b"")
