"""Prediction against measurement on the CPU: the same bytes, in the same categories, at every event.

Scratch that a kernel takes and gives back inside one operator may be missing for the operators of a list alone:
`kernel_scratch.py`, which names the source that takes it.
"""

import gc
import itertools

import numpy as np
import pytest

from exactness import operators
from exactness.kernel_scratch import KERNEL_SCRATCH
from exactness.test_passes import SMALL_GPT2, hugging_face, hugging_face_configs, small_gpt2
from helpers import assert_agrees, record_pass
from vramscope.ledger.categories import CATEGORIES, CODE, Category
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.virtual.recorder import VirtualRecorder
from vramscope.workloads.passes import PassName, run_pass
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import Workload, WorkloadOptions

__all__ = ["SMALL_GPT2", "hugging_face", "hugging_face_configs", "small_gpt2"]
_NUMBER_BYTES = 8
PASSES = ("inference", "training")
OPERATORS = [
    name for name, made in vars(operators).items() if getattr(made, "__annotations__", {}) == {"return": Workload}
]
UNDER_AUTOCAST = (
    "product_of_an_activation_and_a_parameter",
    "recurrent_layers_after_a_layer",
    "distances_and_similarities",
    "reflected_padding",
    "whole_layer_of_a_transformer",
)


def predict_pass(target: str, name: str, **options) -> Ledger:
    gc.collect()
    recorder = VirtualRecorder()
    return Ledger(run_pass(resolve(target), WorkloadOptions(**options), PassName(name), recorder, lambda _: None))


def changes(ledger: Ledger) -> list[tuple[int, str]]:
    """Signed bytes and category of every event of the steps, the listed kernels' scratch left out.

    Several frees in a row come in order of size: autocast drops its casts in the order of a hash table of addresses,
    which differs from run to run. The composition before and after them is the same.
    """
    first = ledger.steps[0].first
    blocks = ledger.blocks.of_event[first:]
    category = ledger.category[blocks]
    kept = category != CODE[Category.WORKSPACE]
    scratch = np.flatnonzero(~kept).tolist()
    kept[scratch] = [ledger.operator_at(first + row) not in KERNEL_SCRATCH for row in scratch]
    sizes = ledger.recording.events.size[first:][kept].tolist()
    rows = list(zip(sizes, (CATEGORIES[code] for code in category[kept].tolist()), strict=True))
    ordered: list[tuple[int, str]] = []
    for births, run in itertools.groupby(rows, key=lambda row: row[0] > 0):
        together = list(run)
        ordered += together if births else sorted(together)
    return ordered


def held_before(ledger: Ledger) -> dict[Category, int]:
    held = ledger.composition(ledger.steps[0].first - 1)
    return {category: size for category, size in held.items() if category != Category.WORKSPACE}


def without_scratch(ledger: Ledger) -> list[tuple[int, str]]:
    """The changes in all categories but workspace: kernels' scratch is not what these are about."""
    return [(size, category) for size, category in changes(ledger) if category != Category.WORKSPACE]


def assert_predicts(target: str, name: str, **options) -> None:
    measured, predicted = record_pass(target, name, **options), predict_pass(target, name, **options)
    assert_agrees(predicted)
    assert held_before(predicted) == held_before(measured)
    assert changes(predicted) == changes(measured)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("mlp", {"batch": 3}),
        ("mlp", {"batch": 3, "checkpoint": True}),
        ("mlp", {"batch": 3, "dtype": "bfloat16"}),
        ("mlp", {"batch": 3, "amp": "bfloat16"}),
        ("mlp", {"batch": 3, "accumulate": 3, "steps": 1}),
        ("mlp", {"batch": 3, "optimizer": "sgd:momentum=0.9", "steps": 1}),
        ("resnet18", {"batch": 1, "steps": 1}),
        ("vit_b16", {"batch": 1, "steps": 1}),
        ("gpt2", {"batch": 1, "seq": 8, "steps": 1}),
        ("resnet18", {"batch": 1, "steps": 1, "amp": "bfloat16"}),
        ("lstm", {"batch": 1}),
        ("lstm", {"batch": 2, "seq": 5, "steps": 1, "dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_built_ins(target, options, name):
    assert_predicts(target, name, **options)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("checkpoint", [False, True], ids=["plain", "checkpoint"])
def test_gpt2_at_a_small_size(small_gpt2, checkpoint, name):
    assert_predicts(small_gpt2, name, checkpoint=checkpoint)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("family", ["gpt2", "bert", "llama", "t5", "vit"])
def test_hugging_face(hugging_face, family, name):
    seq = {} if family == "vit" else {"seq": 8}
    assert_predicts(hugging_face(family), name, batch=2, **seq)


MASKED = """
import torch
import transformers as hf
from vramscope import Workload


def build(family: str, how: str) -> Workload:
    sizes = {"vocab_size": 61, "num_hidden_layers": 2, "max_position_embeddings": 64}
    if family == "llama":
        widths = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **widths, use_cache=False))
    else:
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16}
        layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        model = hf.BartForConditionalGeneration(hf.BartConfig(**sizes, **heads, **layers))
    if how == "checkpoint":
        model.gradient_checkpointing_enable()
    inputs = {"input_ids": torch.randint(3, 61, (2, 40))}
    if family == "bart":
        inputs["decoder_input_ids"] = torch.randint(3, 61, (2, 40))
    if how == "ones":
        inputs["attention_mask"] = torch.ones(2, 40, dtype=torch.int64)
    return Workload(model=model, inputs=inputs, loss=lambda outputs, _: outputs.logits.square().mean())
"""


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("case", ["llama ones", "llama checkpoint", "bart", "bart ones"])
def test_masks_that_a_run_drops_when_it_has_looked_into_them(case, name, tmp_path):
    pytest.importorskip("transformers")
    family, _, how = case.partition(" ")
    path = tmp_path / "masked.py"
    path.write_text(f"{MASKED}\n\ndef chosen():\n    return build({family!r}, {how!r})\n", encoding="utf-8")
    assert_predicts(f"{path}:chosen", name, steps=1)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("case", OPERATORS)
def test_operators_that_fakes_describe_otherwise(case, name):
    assert_predicts_without_scratch(case, name)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("case", UNDER_AUTOCAST)
def test_operators_made_of_others_under_autocast(case, name):
    assert_predicts_without_scratch(case, name, amp="bfloat16")


def assert_predicts_without_scratch(case: str, name: str, **options) -> None:
    target, options = f"{operators.__file__}:{case}", {"steps": 1, **options}
    measured, predicted = record_pass(target, name, **options), predict_pass(target, name, **options)
    assert_agrees(predicted)
    assert held_before(predicted) == held_before(measured)
    assert without_scratch(predicted) == without_scratch(measured)


def blocks_within(ledger: Ledger, operators: set[str]) -> list[tuple[int, str | None]]:
    """Bytes and operator of every block larger than a number that operators take for themselves in the steps."""
    scratch = ledger.category == CODE[Category.WORKSPACE]
    births = ledger.blocks.birth[scratch]
    found = zip(ledger.blocks.size[scratch].tolist(), births.tolist(), strict=True)
    first = ledger.steps[0].first
    named = ((size, ledger.operator_at(birth)) for size, birth in found if birth >= first and size > _NUMBER_BYTES)
    return sorted((size, operator) for size, operator in named if operator in operators)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize(
    ("case", "used"),
    [
        ("counted_truths", {"aten::sum"}),
        ("wide_sums", {"aten::cumsum"}),
        ("ranked", {"aten::kthvalue"}),
        ("shifted_windows", {"aten::roll"}),
        ("means_of_16_bits", {"aten::mean"}),
        ("logarithms_of_sums", {"aten::logsumexp"}),
        ("median_of_all", {"aten::median"}),
        ("chances_of_columns", {"aten::softmax", "aten::_softmax_backward_data"}),
        ("groups_of_narrow_numbers", {"aten::native_group_norm_backward"}),
        ("alignments_of_known_lengths", {"aten::_ctc_loss_backward"}),
        ("bags_of_means_with_an_end", {"aten::embedding_bag"}),
    ],
)
def test_what_operators_take_for_themselves(case, used, name):
    target, options = f"{operators.__file__}:{case}", {"steps": 1}
    measured, predicted = record_pass(target, name, **options), predict_pass(target, name, **options)
    expected = blocks_within(measured, used)
    assert expected or name == "inference"
    assert blocks_within(predicted, used) == expected
