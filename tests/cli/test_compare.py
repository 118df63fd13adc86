import math
import os
from pathlib import Path

import pytest
from command import json_of, refused, vramscope

from vramscope.ledger.categories import Category

FAST = ("--no-lines", "--no-host", "--steps", "1")
FACTORY = """
import torch
from torch import nn

def model():
    return nn.Linear(4, 2)

def raises():
    raise ValueError("the data is not here")

def wrong():
    return 42

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
    def forward(self, x):
        return x @ self.weight

def fails():
    return Fails()

class NoTensor(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
    def forward(self, x):
        return "text"

def no_loss():
    return NoTensor()

def frozen():
    return nn.Linear(4, 2).requires_grad_(False)

def without():
    return nn.ReLU()
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FACTORY)
    return tmp_path


def check_pass(figures: dict, parameter_bytes: int) -> None:
    peak = figures["peak"]
    assert set(peak["by_category"]) == {str(category) for category in Category}
    assert set(peak["requested_by_category"]) == set(peak["by_category"])
    assert sum(peak["by_category"].values()) == peak["bytes"] == figures["allocator"]["peak_bytes"]
    assert figures["allocator"]["max_disagreement_bytes"] == 0
    assert peak["by_category"]["unattributed"] == 0
    assert peak["by_category"]["parameters"] == parameter_bytes
    rows = figures["modules"]
    assert sum(row["retained_bytes"] for row in rows) == figures["activations"]["retained_bytes"]
    assert sum(row["parameter_bytes"] for row in rows) == parameter_bytes
    if figures["sites"]:
        assert sum(site["bytes_at_peak"] for site in figures["sites"]) == peak["bytes"]
    if figures["host"] is not None:
        host = figures["host"]
        parts = ("tensor_bytes_at_peak", "python_heap_bytes_at_peak", "native_remainder_bytes")
        assert sum(host[part] for part in parts) == host["rss_peak_bytes"] - host["rss_before_bytes"]


def test_mlp_end_to_end(tmp_path: Path) -> None:
    document = json_of("compare", "mlp", "-o", "out", cwd=tmp_path)
    assert document["schema"] == "vramscope/1"
    assert document["tool"] == "compare"
    # float32: four bytes for each parameter
    parameter_bytes = 4 * document["workload"]["parameter_count"]
    for figures in document["passes"].values():
        check_pass(figures, parameter_bytes)
        assert figures["sites"]
        assert figures["host"]["rss_before_bytes"] > 0
    training, inference = document["passes"]["training"], document["passes"]["inference"]
    assert math.isclose(document["ratio"]["peak"], training["peak"]["bytes"] / inference["peak"]["bytes"])
    assert sum(row["gradient_bytes"] for row in training["modules"]) == parameter_bytes
    # two moments of every parameter, and a counter of 4 bytes for each of the tensors
    states = [row["optimizer_state_bytes"] for row in training["modules"]]
    assert sum(states) == training["peak"]["by_category"]["optimizer_state"] > 2 * parameter_bytes
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"inference.vram", "training.vram", "compare.json", "timeline.png", "peaks.png"}


def test_the_table_names_what_a_user_looks_for(tmp_path: Path) -> None:
    finished = vramscope("compare", "mlp", *FAST, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    for word in ("parameters", "gradients", "optimizer_state", "activations", "unattributed", "inference", "training"):
        assert word.replace("_", " ") in finished.stdout.lower().replace("_", " ")


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    finished = vramscope("compare", "mlp", *FAST, "-q", cwd=tmp_path)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_a_factory_in_a_file(factory: Path) -> None:
    document = json_of("compare", "mine.py:model", "--input", "input=float32[16,4]", *FAST, cwd=factory)
    # Linear(4, 2): eight weights and two biases of four bytes
    check_pass(document["passes"]["training"], 40)


def test_a_factory_in_a_module(factory: Path) -> None:
    document = json_of("compare", "mine:model", "--input", "input=float32[16,4]", *FAST, cwd=factory)
    check_pass(document["passes"]["inference"], 40)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        # Linear(4, 2): eight weights and two biases
        ("frozen", "all 10 parameters of the model are frozen; call requires_grad_(True) on what is to be trained"),
        ("without", "the model has no parameters"),
    ],
)
def test_of_a_model_with_nothing_to_train_inference_is_shown(name: str, reason: str, factory: Path) -> None:
    (factory / "out").mkdir()
    (factory / "out" / "training.vram").write_text("of an older comparison")
    arguments = ("compare", f"mine.py:{name}", "--input", "input=float32[16,4]", *FAST, "-o", "out")
    document = json_of(*arguments, cwd=factory)
    assert list(document["passes"]) == ["inference"]
    assert "ratio" not in document
    assert f"there is no training pass: {reason}" in document["passes"]["inference"]["notes"]
    written = {path.name for path in (factory / "out").iterdir()}
    assert written == {"inference.vram", "compare.json", "timeline.png", "peaks.png"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gtp2",), ("gtp2", "gpt2")),
        (("mine.py:nothing",), ("nothing", "mine.py")),
        (("missing.py:model",), ("missing.py",)),
        (("mine.py:raises",), ("ValueError", "the data is not here", "mine.py:9")),
        (("mine.py:wrong",), ("int", "nn.Module")),
        (("mine.py:fails", "--input", "x=float32[8,4]"), ("forward", "mine.py")),
        (("mine.py:model", "--input", "inptu=float32[16,4]"), ("inptu", "input")),
        (("mine.py:model", "--input", "input=float23[16,4]"), ("float23",)),
        (("mine.py:model", "--input", "input=float32[16,5]"), ("forward",)),
        (("mine.py:no_loss", "--input", "x=float32[8,4]"), ("loss",)),
        (("timm:resnet18",), ("timm",)),
        (("mlp", "--optimizer", "adamm"), ("adamm", "adam")),
        (("mlp", "--device", "mps"), ("mps", "cpu")),
        (("mlp", "--dtype", "float8"), ("float8",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: tuple[str, ...], factory: Path
) -> None:
    line = refused("compare", *arguments, *FAST, cwd=factory)
    for word in words:
        assert word in line
    assert {path.name for path in factory.iterdir()} - {"__pycache__"} == {"mine.py"}


def test_debug_shows_the_traceback(factory: Path) -> None:
    finished = vramscope("compare", "mine.py:raises", "--debug", cwd=factory)
    assert finished.returncode == 2
    assert "Traceback" in finished.stderr
    assert "raise ValueError" in finished.stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused("compare", "mlp", "-o", "file", cwd=tmp_path)
    assert "nowhere" in refused("compare", "mlp", "--json", "nowhere/a.json", cwd=tmp_path)


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    assert "--btach" in refused("compare", "mlp", "--btach", "3", cwd=tmp_path)
    assert "frobnicate" in refused("frobnicate", cwd=tmp_path)
    assert "TARGET" in refused("compare", cwd=tmp_path)


def test_a_child_that_is_killed_is_named(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import os\ndef model():\n    os.kill(os.getpid(), 9)\n")
    assert "signal 9" in refused("compare", "dies.py:model", cwd=tmp_path)


def test_help_does_not_load_torch(tmp_path: Path) -> None:
    finished = vramscope("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert finished.returncode == 0
    assert "compare" in finished.stdout
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "click" in imported  # the list is there
    assert not {"torch", "matplotlib", "rich"} & imported


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("option", ["-q", "-v"])  # with -v children print where this does
def test_interrupt_ends_with_130(tmp_path: Path, option: str) -> None:
    import signal
    import subprocess
    import sys
    import time

    (tmp_path / "slow.py").write_text(
        "import pathlib, time\ndef model():\n    pathlib.Path('started').touch()\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "vramscope", "compare", "slow.py:model", option, "-o", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "started").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()
