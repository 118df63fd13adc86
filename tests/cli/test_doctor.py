"""`vramscope doctor` and refused devices, as a user meets them."""

from pathlib import Path

import pytest
import torch
from tests.cli.command import json_of, refused, vramscope

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@without_gpu
def test_doctor_explains_a_machine_without_a_gpu(tmp_path: Path) -> None:
    finished = vramscope("doctor", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert torch.__version__ in finished.stdout
    for row in ("GPU tensors", "AMD (ROCm)", "Apple (MPS)", "Intel (XPU)"):
        assert row in finished.stdout


def test_doctor_gives_the_same_as_json(tmp_path: Path) -> None:
    document = json_of("doctor", cwd=tmp_path)
    assert (document["schema"], document["tool"]) == ("vramscope/1", "doctor")
    assert document["machine"]["torch"] == torch.__version__
    assert document["machine"]["memory_bytes"] > 0
    extents = {row["name"]: row["extent"] for row in document["capabilities"]}
    assert extents["CPU tensors"] == "yes"


@without_gpu
def test_compare_says_why_there_is_no_gpu(tmp_path: Path) -> None:
    line = refused("compare", "mlp", "--device", "cuda", cwd=tmp_path)
    assert line.startswith("vramscope: --device cuda: ")
    assert "--device cpu" in line
