"""`fit`: the answer against predictions made apart from it, the remedies, other GPUs, and its words."""

import importlib.util
import json
import re

import pytest

from cli.command import refused, vramscope
from vramscope.predict.estimate import gpu_use, predict_passes
from vramscope.predict.gpus import find_gpu
from vramscope.workloads.workload import WorkloadOptions

FEW_STEPS = ("--steps", "1", "-q", "--json", "-")
SIZED = """
import torch
from torch import nn
from torch.nn import functional
from vramscope import Workload

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 512)
        self.layers = nn.ModuleList(nn.Linear(512, 512) for _ in range(4))
        self.head = nn.Linear(512, 1000)

    def forward(self, tokens):
        if tokens.shape[1] > 512:
            raise ValueError("at most 512 tokens")
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        return self.head(hidden)

def build(batch=4, seq=64):
    tokens = torch.randint(1000, (batch, seq))
    loss = lambda outputs, targets: functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    return Workload(Net(), tokens, loss, tokens)
"""

PAIRS = """
import torch
from torch import nn
from vramscope import Workload

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 1024)

    def forward(self, samples):
        left, right = self.layer(samples).chunk(2)
        return left - right

def build(batch=4):
    return Workload(Net(), torch.randn(batch, 256))
"""

IMAGES = """
import torch
from torch import nn
from vramscope import Workload

def build(batch=1):
    return Workload(nn.Conv2d(3, 4, 2), torch.empty(batch, 3, 3 - batch, 3))
"""


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    path = tmp_path_factory.mktemp("sized") / "sized.py"
    path.write_text(SIZED, encoding="utf-8")
    return f"{path}:build"


@pytest.fixture(scope="module")
def found(sized, tmp_path_factory):
    """A finished fit of a batch."""
    folder = tmp_path_factory.mktemp("fit")
    result = vramscope("fit", sized, "--gpu", "rtx4090-24gb", "--vram", "2GiB", *FEW_STEPS, "-o", "out", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "out" / "fit.json").read_text(encoding="utf-8") == result.stdout
    assert (folder / "out" / "fit.png").read_bytes().startswith(b"\x89PNG")
    return json.loads(result.stdout)


def process_bytes(target, **options):
    gpu = find_gpu("rtx4090-24gb")
    recording = predict_passes(target, WorkloadOptions(steps=1, **options), gpu, ("training",))["training"]
    return gpu_use(recording, gpu).process_bytes[1]


def test_the_batch_fits_and_the_next_one_does_not(found, sized):
    # 2 GiB less 5 %, rounded up
    assert found["limit_bytes"] == 2**31 - 107374183
    assert found["fits"] is True
    assert process_bytes(sized, batch=found["batch"]) == found["peak_bytes"] <= found["limit_bytes"]
    assert process_bytes(sized, batch=found["batch"] + 1) == found["next_peak_bytes"] > found["limit_bytes"]


def test_every_remedy_is_a_prediction_of_its_own_for_the_next_batch(found, sized):
    remedies = {remedy["name"]: remedy for remedy in found["remedies"]}
    batch = found["batch"] + 1
    options = {"amp bfloat16": {"amp": "bfloat16"}, "optimizer sgd": {"optimizer": "sgd"}}
    options[f"accumulate 2 x {-(-batch // 2)}"] = {"batch": -(-batch // 2), "accumulate": 2}
    for name, changed in options.items():
        remedy = remedies[name]
        assert remedy["peak_bytes"] == process_bytes(sized, **{"batch": batch, **changed})
        assert remedy["saves_bytes"] == found["next_peak_bytes"] - remedy["peak_bytes"]
        assert remedy["fits"] == (remedy["peak_bytes"] <= found["limit_bytes"])
    assert remedies["checkpoint"]["peak_bytes"] is None
    assert "takes no argument named 'checkpoint'" in remedies["checkpoint"]["why"]
    assert remedies["LoRA, the rest frozen"]["peak_bytes"] < found["next_peak_bytes"]
    assert remedies["last layer, the rest frozen"]["peak_bytes"] < found["next_peak_bytes"]
    if importlib.util.find_spec("bitsandbytes") is None:
        assert remedies["optimizer adamw8bit"]["why"] == "pip install bitsandbytes"


def test_the_neighbours_in_the_table_are_searched_too(found):
    smaller, larger = found["gpus"]
    assert (smaller["gpu"], larger["gpu"]) == ("rtx4000ada-20gb", "rtx5000ada-32gb")
    assert found["batch"] < smaller["size"] < larger["size"]
    assert smaller["peak_bytes"] <= smaller["limit_bytes"]


def test_a_sequence_ends_where_the_model_does(sized, tmp_path):
    result = vramscope("fit", sized, "--gpu", "a100-80gb", "--over", "seq", "--batch", "2", *FEW_STEPS, cwd=tmp_path)
    document = json.loads(result.stdout)
    assert (document["seq"], document["batch"], document["next_peak_bytes"]) == (512, 2, None)
    assert "at most 512 tokens" in document["next_refused"]


def test_not_even_one_is_exit_code_1(sized, tmp_path):
    arguments = ("--vram", "300MiB", "--over", "seq", "--batch", "2", "--pass", "inference", "--steps", "1")
    result = vramscope("fit", sized, *arguments, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "not even sequence 1 fits" in result.stdout
    # the larger GPU takes what the model does
    assert re.search(r"rtx2070-8gb +7\.\d GiB +sequence 512$", result.stdout, re.MULTILINE)
    assert "expected error: " in result.stdout
    assert result.stderr == ""


def test_what_is_left_out_is_said(tmp_path):
    """A convolution whose output would be empty for two images ends the search at once."""
    (tmp_path / "images.py").write_text(IMAGES, encoding="utf-8")
    arguments = ("--gpu", "b300-288gb", "--pass", "inference", "--steps", "1")
    result = vramscope("fit", "images.py:build", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "batch 1 fits" in result.stdout
    assert "workspaces of cuDNN count as 0, a lower bound" in result.stdout


def test_a_model_of_pairs_is_searched_in_pairs(tmp_path):
    """A batch of one cannot be run, nor can an odd one: torch's own words on that are no result."""
    (tmp_path / "pairs.py").write_text(PAIRS, encoding="utf-8")
    arguments = ("pairs.py:build", "--vram", "800MiB", "--pass", "inference", "--steps", "1", "--json", "fit.json")
    result = vramscope("fit", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))
    batch, above = document["batch"], document["next_size"]
    assert batch > 2 and batch % 2 == 0 and above == batch + 2
    assert {remedy["batch"] for remedy in document["remedies"]} == {above}
    assert {size["size"] % 2 for size in document["curve"]} == {0}
    assert document["gpus"][0]["size"] > batch
    assert f"batch {batch} fits with " in result.stdout
    assert f"; batch {above} would need " in result.stdout
    assert f"\nbatch {batch + 1} cannot be run: forward failed: RuntimeError: " in result.stdout


def test_headroom_that_a_smaller_gpu_does_not_have_leaves_it_out(tmp_path):
    # 5.6 GiB that CUDA has for programs of a GPU of 6 GiB
    arguments = ("--gpu", "rtx2070-8gb", "--headroom", "6GiB", "--pass", "inference")
    result = vramscope("fit", "mlp", *arguments, *FEW_STEPS, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [other["size"] > 0 for other in json.loads(result.stdout)["gpus"]] == [True]


def test_inference_lists_no_remedy_of_training(tmp_path):
    result = vramscope("fit", "mlp", "--vram", "1GiB", "--pass", "inference", *FEW_STEPS, cwd=tmp_path)
    document = json.loads(result.stdout)
    assert [remedy["name"] for remedy in document["remedies"]] == ["amp bfloat16", "expandable_segments:True"]
    # no GPU was named: the rules of the smallest one with so much memory
    assert document["gpu"] == "gtx1660ti-6gb"
    assert "device" not in document["options"]  # what was run on fakes has none


@pytest.mark.parametrize("command", ["estimate", "fit"])
def test_help_lists_no_device_since_a_prediction_refuses_one(command, tmp_path):
    words = vramscope(command, "--help", cwd=tmp_path).stdout
    assert "--seed" in words
    assert "--device" not in words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpu", "t4-16gb", "--batch", "3"), "--batch is what fit looks for"),
        (("--gpu", "t4-16gb", "--over", "seq", "--seq", "3"), "--seq is what fit looks for"),
        ((), "fit needs --gpu NAME or --vram SIZE"),
        (("--gpu", "rtx4090"), "did you mean rtx4090-24gb"),
        (("--gpu", "RTX 3090"), "did you mean rtx3090-24gb, rtx3090ti-24gb"),
        (("--vram", "24"), "write a number and a unit"),
        (("--vram", "0GiB"), "leaves no memory"),
        (("--vram", "1GiB", "--headroom", "2GiB"), "leaves nothing"),
        (("--vram", "1GiB", "--headroom", "101%"), "more than the whole"),
        (("--vram", "1GiB", "--headroom", "some"), "neither a size nor a share"),
        (("--vram", "1GiB", "--allocator", "nonsense:1"), "nonsense"),
        (("--vram", "1GiB", "--device", "cuda"), "--device cuda does nothing"),
        (("--vram", "1GiB", "--pass", "inference", "--train", "lora"), "belong to training"),
        (("--vram", "1GiB", "--json", "missing/fit.json"), "missing/fit.json"),
        (("--vram", "1GiB", "--optimizer", "adamw9bit"), "no optimizer 'adamw9bit'"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, arguments, said):
    assert said in refused("fit", "mlp", *arguments, cwd=tmp_path)


def test_a_model_with_nothing_to_train_is_told_of_inference(tmp_path):
    text = "import torch, vramscope\ndef build(batch=1):\n    x = torch.ones(batch)\n"
    text += "    return vramscope.Workload(torch.nn.ReLU(), x)\n"
    (tmp_path / "plain.py").write_text(text, encoding="utf-8")
    line = refused("fit", "plain.py:build", "--vram", "1GiB", cwd=tmp_path)
    assert "the model has no parameters; --pass inference takes the model as it is" in line
