import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vramscope.errors import TargetError, UsageError
from vramscope.workloads.losses import SURROGATE_NOTE
from vramscope.workloads.steps import NoPhases, inference_step, training_step
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = {"vocab_size": 60, "max_position_embeddings": 64, "num_labels": 3, **SMALL}
GPT2 = {
    "vocab_size": 60,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LLAMA = {
    "vocab_size": 60,
    "dtype": "bfloat16",
    **SMALL,
}  # a configuration may name a dtype; --dtype decides all the same
T5 = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
VIT = {"image_size": 16, "patch_size": 8, "num_labels": 3, **SMALL}
FAMILIES = {
    "gpt2": ("GPT2Config", GPT2, "GPT2LMHeadModel"),
    "bert": ("BertConfig", BERT, "BertForMaskedLM"),
    "llama": ("LlamaConfig", LLAMA, "LlamaForCausalLM"),
    "t5": ("T5Config", T5, "T5ForConditionalGeneration"),
    "vit": ("ViTConfig", VIT, "ViTForImageClassification"),
}
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a configuration into a folder, as ``save_pretrained`` does, and names the folder."""

    def write(config: str, values: dict[str, Any], architecture: str | None = None) -> Path:
        made = getattr(transformers, config)(**values, architectures=[architecture] if architecture else None)
        made.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return write


def prepare(folder: Path, training: bool = True, **options: Any) -> PreparedWorkload:
    return resolve(f"hf:{folder}").prepare(WorkloadOptions.from_json(options), training)


def shapes(workload: PreparedWorkload) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in workload.input_tensors()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("options", [{}, {"checkpoint": True, "amp": "bfloat16"}, {"dtype": "bfloat16"}])
def test_families_run_both_steps(save: Save, family: str, options: dict[str, Any]) -> None:
    workload = prepare(save(*FAMILIES[family]), batch=2, **options)
    assert type(workload.model).__name__ == FAMILIES[family][2]
    assert workload.dtype == options.get("dtype", "float32")
    inference_step(workload, NoPhases())
    losses: list[float] = []
    training_step(workload, workload.build_optimizers(), NoPhases(), losses.append)
    assert torch.isfinite(torch.tensor(losses)).all()


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("gpt2", {"input_ids": (2, 9), "labels": (2, 9)}),
        ("bert", {"input_ids": (2, 9), "labels": (2, 9)}),
        ("llama", {"input_ids": (2, 9), "labels": (2, 9)}),
        ("t5", {"input_ids": (2, 9), "decoder_input_ids": (2, 9), "labels": (2, 9)}),
    ],
)
def test_inputs_of_text_models(save: Save, family: str, wanted: dict[str, tuple[int, ...]]) -> None:
    workload = prepare(save(*FAMILIES[family]), batch=2, seq=9)
    assert shapes(workload) == wanted
    assert (workload.batch, workload.seq) == (2, 9)


def test_inputs_of_an_image_model(save: Save) -> None:
    workload = prepare(save(*FAMILIES["vit"]))
    assert shapes(workload) == {"pixel_values": (8, 3, 16, 16), "labels": (8,)}
    assert (workload.batch, workload.seq) == (8, None)


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        ("BertForSequenceClassification", {"labels": (2,)}),
        ("BertForTokenClassification", {"labels": (2, 9)}),
        ("BertForQuestionAnswering", {"start_positions": (2,), "end_positions": (2,)}),
    ],
)
def test_labels_of_other_heads(save: Save, architecture: str, labels: dict[str, tuple[int, ...]]) -> None:
    # a question's answer has two labels per token, where it begins and where it ends
    workload = prepare(save("BertConfig", {**BERT, "num_labels": 2}, architecture), batch=2, seq=9)
    assert shapes(workload) == {"input_ids": (2, 9), **labels}
    assert workload.notes == ()
    training_step(workload, workload.build_optimizers(), NoPhases())


def test_one_label_means_regression(save: Save) -> None:
    workload = prepare(save("BertConfig", {**BERT, "num_labels": 1}, "BertForSequenceClassification"))
    assert workload.training_inputs[1]["labels"].dtype == torch.float32


def test_labels_are_there_in_training_alone(save: Save) -> None:
    folder = save(*FAMILIES["bert"])
    workload = prepare(folder)
    assert set(workload.training_inputs[1]) - set(workload.inputs[1]) == {"labels"}
    assert set(shapes(prepare(folder, training=False))) == {"input_ids"}


def test_a_model_without_a_head_gets_the_surrogate_loss(save: Save) -> None:
    workload = prepare(save("BertConfig", BERT, "BertModel"), seq=9)
    assert shapes(workload) == {"input_ids": (8, 9)}
    assert workload.notes == (SURROGATE_NOTE,)


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("gpt2", "GPT2LMHeadModel"),
        ("bert", "BertForMaskedLM"),
        ("llama", "LlamaForCausalLM"),
        ("t5", "T5ForConditionalGeneration"),
        ("vit", "ViTForImageClassification"),
    ],
)
def test_without_architectures_the_library_s_own_choice_is_built(save: Save, family: str, model: str) -> None:
    config, values, _ = FAMILIES[family]
    assert type(prepare(save(config, values)).model).__name__ == model


def test_a_default_sequence_is_cut_to_the_model_s_most(save: Save) -> None:
    workload = prepare(folder := save(*FAMILIES["bert"]))
    assert workload.seq == 64
    assert workload.notes == (f"the sequence is 64 tokens, the most that hf:{folder} takes",)


def test_a_sequence_that_fits_is_not_cut(save: Save) -> None:
    config, values, architecture = FAMILIES["bert"]
    workload = prepare(save(config, {**values, "max_position_embeddings": 512}, architecture))
    assert (workload.seq, workload.notes) == (128, ())


def test_positions_that_begin_after_the_padding_token_are_fewer(save: Save) -> None:
    workload = prepare(save("RobertaConfig", {**BERT, "pad_token_id": 1}, "RobertaForMaskedLM"))
    assert workload.seq == 62  # 64 positions less those of tokens 0 and 1
    inference_step(workload, NoPhases())


def test_checkpointing_recomputes_the_layers(save: Save) -> None:
    workload = prepare(save(*FAMILIES["bert"]), checkpoint=True, seq=9)
    calls: list[str] = []
    for layer in workload.model.bert.encoder.layer:
        layer.attention.register_forward_pre_hook(lambda *_: calls.append("forward"))
    training_step(workload, workload.build_optimizers(), NoPhases())
    assert len(calls) == 4  # each of two layers in forward and again in backward


def test_given_inputs_replace_made_up_ones(save: Save) -> None:
    given = ["input_ids=int64[3,5]<60", "attention_mask=int64[3,5]<2", "labels=int64[3,5]<60"]
    workload = prepare(save(*FAMILIES["bert"]), inputs=given)
    assert shapes(workload) == {"input_ids": (3, 5), "attention_mask": (3, 5), "labels": (3, 5)}
    assert set(workload.inputs[1]) == {"input_ids", "attention_mask"}
    assert (workload.batch, workload.seq) == (3, 5)


def test_an_input_may_be_added(save: Save) -> None:
    workload = prepare(save(*FAMILIES["bert"]), batch=3, seq=5, inputs=["attention_mask=int64[3,5]"])
    assert shapes(workload) == {"input_ids": (3, 5), "attention_mask": (3, 5), "labels": (3, 5)}


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("bert", {"seq": 65}, "--seq 65: hf:"),
        ("vit", {"seq": 3}, "--seq does nothing for hf:"),
        ("bert", {"inputs": ["attention_maks=int64[8,64]"]}, "did you mean 'attention_mask'?"),
        ("bert", {"batch": 2, "inputs": ["input_ids=int64[3,5]"]}, "--batch does nothing for hf:"),
    ],
)
def test_options_that_make_no_sense_are_refused(save: Save, family: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(save(*FAMILIES[family]), **options)
    assert words in str(caught.value)


def test_checkpointing_that_the_model_does_not_support_is_refused(save: Save) -> None:
    config = {"embedding_size": 4, "hidden_sizes": [4, 4], "depths": [1, 1]}
    with pytest.raises(UsageError, match=r"--checkpoint does not apply to hf:.*: ValueError: ResNetForImage"):
        prepare(save("ResNetConfig", config, "ResNetForImageClassification"), checkpoint=True)


def test_an_input_that_cannot_be_made_up_must_be_given(save: Save) -> None:
    features = {"conv_dim": (8,), "conv_stride": (4,), "conv_kernel": (4,), "num_feat_extract_layers": 1}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    folder = save("Wav2Vec2Config", {"vocab_size": 60, **SMALL, **features, **positions}, "Wav2Vec2Model")
    with pytest.raises(UsageError, match="cannot make up 'input_values' for Wav2Vec2Model: give it as --input"):
        prepare(folder)
    workload = prepare(folder, inputs=["input_values=float32[2,400]"])
    inference_step(workload, NoPhases())


def test_tokens_without_a_vocabulary_must_be_given(save: Save) -> None:
    # CANINE hashes Unicode code points: its configuration has no vocabulary
    values = {**SMALL, "num_hash_buckets": 16, "local_transformer_stride": 8, "max_position_embeddings": 2048}
    folder = save("CanineConfig", values, "CanineModel")
    with pytest.raises(UsageError, match=r"how many tokens there are: give input_ids as --input input_ids=int64\["):
        prepare(folder)
    inference_step(prepare(folder, inputs=["input_ids=int64[2,16]<1000"]), NoPhases())


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"the folder has no config\.json: save one with"):
        resolve(f"hf:{tmp_path}")


@pytest.mark.parametrize("target", ["hf:", "hf:./nowhere", "hf:a/b/c"])
def test_a_folder_that_is_not_there_is_refused(target: str) -> None:
    with pytest.raises(TargetError, match="there is no such folder"):
        resolve(target)


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "nothing_known"}'])
def test_a_config_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(TargetError) as caught:
        prepare(tmp_path)
    assert "config.json cannot be used" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architecture_the_library_does_not_have_is_refused(save: Save) -> None:
    with pytest.raises(TargetError, match="has no architecture 'BertForDreaming'"):
        prepare(save("BertConfig", BERT, "BertForDreaming"))


def test_a_config_that_no_model_can_be_built_from_is_refused(save: Save) -> None:
    with pytest.raises(TargetError, match="building BertForMaskedLM failed: ValueError: The hidden size"):
        prepare(save("BertConfig", {**BERT, "num_attention_heads": 3}, "BertForMaskedLM"))


def run_offline(tmp_path: Path, targets: list[str], **environment: str) -> list[str]:
    """The errors of preparing ``targets`` in a fresh process whose hub is a port where nobody answers, a line each."""
    code = (
        "from vramscope.errors import TargetError\n"
        "from vramscope.workloads.targets import resolve\n"
        "from vramscope.workloads.workload import WorkloadOptions\n"
        f"for target in {targets!r}:\n"
        "    try:\n        resolve(target).prepare(WorkloadOptions())\n"
        "    except TargetError as error:\n        print(error)\n"
    )
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), **environment}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **hub}
    )
    assert "Retrying" not in result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_cannot_be_reached_is_said_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    unreachable, impossible = run_offline(tmp_path, ["hf:some/model", "hf:what a name"], **environment)
    assert unreachable.startswith("hf:some/model: the Hugging Face hub cannot be reached (")
    assert unreachable.endswith("give a folder with its config.json instead")
    assert impossible.startswith("hf:what a name: the hub has no such model: HFValidationError")


def test_a_missing_library_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TargetError, match=r"hf:gpt2: transformers is not installed: pip install transformers"):
        resolve("hf:gpt2")
