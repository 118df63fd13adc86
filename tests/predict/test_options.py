"""Every option of `estimate` changes the prediction, by what can be worked out beforehand."""

import json

import pytest

from vramscope.cli.main import run

PARAMETERS = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10


@pytest.fixture
def estimate(tmp_path):
    """The document of one `estimate`, by the command itself."""

    def estimated(*options, target="mlp", gpu="t4-16gb"):
        path = tmp_path / "estimate.json"
        assert run(["estimate", target, "--gpu", gpu, "--steps", "1", "-q", "--json", str(path), *options]) == 0
        return json.loads(path.read_text(encoding="utf-8"))["passes"]

    return estimated


def requested(document, category, name="training"):
    return document[name]["peak"]["requested_by_category"][category]


def test_batch(estimate):
    # images of 784 numbers of 4 bytes
    assert requested(estimate("--batch", "3"), "inputs", "inference") == 3 * 784 * 4
    assert requested(estimate("--batch", "6"), "inputs", "inference") == 6 * 784 * 4


def test_seq(estimate):
    # token numbers are int64
    document = estimate("--batch", "2", "--seq", "16", target="gpt2")
    assert requested(document, "inputs", "inference") == 2 * 16 * 8


def test_dtype(estimate):
    assert requested(estimate("--dtype", "bfloat16"), "parameters") == 2 * PARAMETERS


def test_amp(estimate):
    plain, mixed = estimate("--batch", "64"), estimate("--batch", "64", "--amp", "bfloat16")
    assert requested(mixed, "parameters") == requested(plain, "parameters") == 4 * PARAMETERS
    # results of hidden layers are kept in two bytes a number instead of four, but casts of weights are kept too
    assert mixed["training"]["activations"]["retained_bytes"] != plain["training"]["activations"]["retained_bytes"]


def test_optimizer_and_its_forms(estimate):
    adamw, fused, sgd = estimate(), estimate("--fused"), estimate("--optimizer", "sgd")
    assert requested(adamw, "optimizer_state") == 2 * 4 * PARAMETERS
    assert requested(adamw, "optimizer_temporaries") == 4 * PARAMETERS  # foreach: the square roots of all at once
    assert requested(fused, "optimizer_temporaries") == 0
    assert requested(sgd, "optimizer_state") == 0


def test_checkpoint(estimate):
    size = ("--batch", "1", "--seq", "16")
    plain, checkpointed = estimate(*size, target="gpt2"), estimate(*size, "--checkpoint", target="gpt2")
    plain_bytes = plain["training"]["activations"]["retained_bytes"]
    assert checkpointed["training"]["activations"]["retained_bytes"] < plain_bytes


def test_accumulate(estimate):
    forward = estimate("--accumulate", "2")["training"]["phases"]["forward"]["by_category"]
    assert forward["gradients"] >= 4 * PARAMETERS
    assert estimate()["training"]["phases"]["forward"]["by_category"]["gradients"] == 0


def test_what_is_trained(estimate):
    # the last layer: 256 x 10 weights and 10 biases
    assert requested(estimate("--train", "last"), "optimizer_state") == 2 * 4 * 2570
    # rank 8 beside two layers: 8 x (784 + 512) and 8 x (512 + 256)
    assert requested(estimate("--train", "lora"), "optimizer_state") == 2 * 4 * 8 * (784 + 512 + 512 + 256)


def test_allocator(estimate):
    # a bias of 512 numbers is a block of 2,048 bytes; 65 samples of 784 numbers are 203,840 bytes, rounded up to a
    # quarter of 131,072: 229,376
    plain = estimate("--batch", "65")["inference"]["peak"]["by_category"]["inputs"]
    rounded = estimate("--batch", "65", "--allocator", "roundup_power2_divisions:4")
    assert plain == 204288  # 399 blocks of 512
    assert rounded["inference"]["peak"]["by_category"]["inputs"] == 229376


def test_gpu(estimate):
    # a cuBLAS workspace for forward's thread and one for backward's
    assert requested(estimate(gpu="t4-16gb"), "workspace") == 2 * 8519680
    assert requested(estimate(gpu="h100-80gb"), "workspace") == 2 * 2**25


def test_out(tmp_path, estimate):
    estimate("-o", str(tmp_path / "out"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"estimate.json", "inference.vram", "training.vram", "timeline.png", "peaks.png"}


def test_an_optimizer_that_may_be_captured_counts_its_steps_on_the_gpu(estimate):
    # a float32 counter for each weight and bias of three layers, which else is in host memory
    captured = estimate("--optimizer", "adamw:capturable=true")
    assert requested(captured, "optimizer_state") == 2 * 4 * PARAMETERS + 6 * 4
