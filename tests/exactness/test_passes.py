"""Whole passes of real models: every sum exact, and in the steady steps not one byte without an owner."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import FLOAT32, MarkKind, assert_agrees, assert_exact_pass, record_pass, recording_of, steady
from vramscope.ledger.categories import Category
from vramscope.ledger.summary import summarize_ledger
from vramscope.workloads.models.gpt2 import Gpt2

PASSES = ("inference", "training")

# A factory file, as a user would write it: the built-in GPT-2 at a size for tests.
SMALL_GPT2 = """
import torch
from torch.nn import functional
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes
from vramscope.workloads.workload import Workload

def build(checkpoint=False):
    tokens = torch.randint(97, (2, 8))
    sizes = Gpt2Sizes(vocabulary=97, context=16, width=16, layers=2, heads=2)

    def loss(logits, targets):
        return functional.cross_entropy(logits.flatten(0, 1), targets)

    return Workload(Gpt2(sizes, checkpoint), tokens, loss, targets=tokens.flatten())
"""


def hugging_face_configs() -> dict[str, Any]:
    """Configurations of the families that people profile most, each small enough for a step to take milliseconds."""
    import transformers as hf

    return {
        "gpt2": hf.GPT2Config(
            vocab_size=61, n_positions=16, n_embd=16, n_layer=2, n_head=2, architectures=["GPT2LMHeadModel"]
        ),
        "bert": hf.BertConfig(
            vocab_size=61,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            architectures=["BertForMaskedLM"],
        ),
        "llama": hf.LlamaConfig(
            vocab_size=61,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=16,
            architectures=["LlamaForCausalLM"],
        ),
        "t5": hf.T5Config(
            vocab_size=61,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            architectures=["T5ForConditionalGeneration"],
        ),
        "vit": hf.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=8,
            architectures=["ViTForImageClassification"],
        ),
    }


@pytest.fixture
def hugging_face(tmp_path):
    """Saves a family's configuration and gives the target."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")

    def save(family: str) -> str:
        hugging_face_configs()[family].save_pretrained(tmp_path / family)
        return f"hf:{tmp_path / family}"

    return save


@pytest.fixture
def small_gpt2(tmp_path) -> str:
    path = Path(tmp_path / "small_gpt2.py")
    path.write_text(SMALL_GPT2, encoding="utf-8")
    return f"{path}:build"


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("mlp", {"batch": 3}),
        ("mlp", {"batch": 3, "checkpoint": True}),
        ("mlp", {"batch": 3, "dtype": "bfloat16"}),
        ("mlp", {"batch": 3, "amp": "bfloat16"}),
        ("mlp", {"batch": 3, "amp": "bfloat16", "checkpoint": True}),
        ("lstm", {"batch": 1, "seq": 16, "steps": 1}),
        ("resnet18", {"batch": 1, "steps": 1}),
    ],
    ids=str,
)
def test_built_ins(target, options, name):
    assert_exact_pass(record_pass(target, name, **options))


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("checkpoint", [False, True], ids=["plain", "checkpoint"])
def test_gpt2_at_a_small_size(small_gpt2, checkpoint, name):
    assert_exact_pass(record_pass(small_gpt2, name, checkpoint=checkpoint))


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("family", ["gpt2", "bert", "llama", "t5", "vit"])
def test_hugging_face(hugging_face, family, name):
    seq = {} if family == "vit" else {"seq": 8}
    assert_exact_pass(record_pass(hugging_face(family), name, batch=2, steps=1, **seq))


def test_a_kv_cache_is_known_by_name(hugging_face):
    ledger = record_pass(hugging_face("gpt2"), "inference", batch=2, seq=8)
    marked = np.append(ledger.recording.marks.kind, -1)[ledger.mark] == MarkKind.KV_CACHE
    step = ledger.steps[1]
    born = (ledger.blocks.birth >= step.first) & (ledger.blocks.birth < step.last)
    # 2 layers, keys and values, of batch 2, 8 tokens, 16 wide, copied together from the projection's output
    assert ledger.blocks.size[marked & born].tolist() == [2 * 8 * 16 * FLOAT32] * 4
    assert (ledger.is_category(Category.ACTIVATIONS) | ~marked).all()


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_hugging_face_with_checkpointing(hugging_face, family):
    ledger = record_pass(hugging_face(family), "training", batch=2, seq=8, steps=1, checkpoint=True)
    assert_exact_pass(ledger)
    assert ledger.recomputed.any()


def test_gpt2_has_its_weights_once_and_adamw_holds_them_twice():
    """What is promised of GPT-2, on the real model; a single step of a few tokens shows them."""
    torch.manual_seed(0)
    with recording_of() as running:
        with running.recorder.phase("build"):
            model, tokens = Gpt2(), torch.arange(4).reshape(1, 4)
            optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        running.recorder.watch(model)
        running.recorder.mark_inputs(tokens)
        with running.recorder.step(0):
            loss = model(tokens).square().mean()
            loss.backward()
            optimizer.step()
            del loss
    ledger = running.ledger
    assert_agrees(ledger)
    summary = summarize_ledger(ledger)
    # 124,439,808 parameters of 4 bytes, the head's weight tied to the token embedding's
    weights = 124_439_808 * FLOAT32
    assert weights == 497_759_232
    assert summary.peak.by_category[Category.PARAMETERS] == weights
    assert summary.peak.by_category[Category.UNATTRIBUTED] == 0
    assert summary.gradients_peak_bytes == weights
    # 2 embeddings, 12 blocks of 2 norms and 4 linears with weight and bias, and the last norm: 2 + 12 * 12 + 2 tensors,
    # each with two moments of its own size and a step counter of one float
    assert summary.optimizer_state == {"step": 148 * FLOAT32, "exp_avg": weights, "exp_avg_sq": weights}
    assert sum(row.gradient_bytes for row in summary.modules) == weights
    assert sum(row.parameter_bytes for row in summary.modules) == weights
    assert sum(row.retained_bytes for row in summary.modules) == summary.activations.retained_bytes


def test_inference_keeps_nothing_from_step_to_step(small_gpt2):
    ledger = record_pass(small_gpt2, "inference")
    levels = [sum(ledger.composition(step.last - 1).values()) for step in ledger.steps]
    assert len(set(levels)) == 1
    assert ledger.peak(steady(ledger)).bytes > levels[0]
