"""`vramscope estimate --against`: a recording of the CPU by its rules, a CUDA snapshot by the GPU's."""

import json
import textwrap
from pathlib import Path

import pytest

from cli.command import json_of, refused, vramscope

SNAPSHOTS = Path(__file__).parents[2].parent / "shared" / "snapshots"
MEDIUM = f"""
import sys
import torch
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from predict.medium import VOCABULARY, Medium
from vramscope import Workload

def build():
    return Workload(Medium(256), torch.randint(VOCABULARY, (4, 256)))
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    options = ("--batch", "3", "--steps", "1", "--no-lines", "--no-host", "-q", "-o", "out")
    finished = vramscope("compare", "mlp", *options, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_a_folder_of_the_cpu(compared):
    document = json_of("estimate", "mlp", "--batch", "3", "--steps", "1", "--against", "out", cwd=compared)
    assert set(document["against"]) == {"inference", "training"}
    for name, against in document["against"].items():
        assert against["first_difference"] is None
        measured = json.loads((compared / "out/compare.json").read_text())["passes"][name]["peak"]
        assert against["peak"]["measured_bytes"] == measured["bytes"]
        assert against["peak"]["predicted_bytes"] == document["passes"][name]["peak"]["bytes"]
        assert (
            sum(figure["difference_bytes"] for figure in against["by_category"].values())
            == (against["peak"]["difference_bytes"])
        )


def test_words_for_one_recording(compared):
    path = str(compared / "out" / "inference.vram")
    finished = vramscope("estimate", "mlp", "--batch", "3", "--steps", "1", "--against", path, cwd=compared)
    assert finished.returncode == 0, finished.stderr
    assert "inference: prediction beside measurement" in finished.stdout
    assert "all of the same size, in the same order; scratch inside operators is left out" in finished.stdout
    assert "training: prediction" not in finished.stdout
    assert "\n\n\n" not in finished.stdout
    assert [line for line in finished.stdout.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batch", "4", "--against", "out"), "batch is 3 in the recording and 4 in the prediction"),
        (("--batch", "3", "--accumulate", "2", "--against", "out"), "accumulate is 1 in the recording and 2 in"),
        (("--batch", "3", "--against", "out", "--gpu", "t4-16gb"), "the recording is of the CPU"),
        (("--batch", "3", "--against", "out", "--allocator", "max_split_size_mb:64"), "mb:64: the recording is of"),
        (("--against", "nowhere"), "nowhere"),
        (("--against", "absent.pickle"), "--pass training or --pass inference"),
        (("--against", "absent.pickle", "--pass", "training"), "no such file"),
        (("--gpu", "t4-16gb", "--pass", "backward"), "estimate predicts inference and training"),
        ((), "estimate needs --gpu NAME"),
    ],
)
def test_what_cannot_be_compared(compared, arguments, said):
    assert said in refused("estimate", "mlp", *arguments, cwd=compared)


@pytest.mark.skipif(not SNAPSHOTS.is_dir(), reason="the folder shared/snapshots is absent")
def test_a_snapshot(tmp_path):
    (tmp_path / "medium.py").write_text(textwrap.dedent(MEDIUM), encoding="utf-8")
    snapshot = str(SNAPSHOTS / "medium_256_inference.pickle")
    options = ("--gpu", "a100-80gb", "--pass", "inference", "--steps", "1", "--against", snapshot)
    against = json_of("estimate", "medium.py:build", *options, cwd=tmp_path)["against"]["inference"]
    # the recorded program held the inputs of five warm-up passes more: [5, 4, 256] of int64
    assert against["peak"]["difference_bytes"] == -5 * 4 * 256 * 8
    assert against["reserved"]["difference_bytes"] == 0
    assert against["allocations"] == {"predicted": 1280, "measured": 1280, "matching": 1.0}
