"""The callback in Hugging Face's own Trainer, a model from a config."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")
import torch  # noqa: E402 - after what may be missing
from tests.integrations.exact import all_parameter_bytes, require_run  # noqa: E402

from vramscope.errors import UnsupportedError  # noqa: E402
from vramscope.integrations.transformers import VramscopeCallback  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def rows(count: int) -> list[dict[str, Any]]:
    tokens = torch.randint(0, 100, (count, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": torch.tensor(number % 2)} for number, row in enumerate(tokens)]


def trainer(folder: Path, *callbacks: Any) -> Any:
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, vocab_size=100))
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments = transformers.TrainingArguments(
        str(folder / "results"), per_device_train_batch_size=2, num_train_epochs=1, **quiet
    )
    return transformers.Trainer(model=model, args=arguments, train_dataset=rows(12), callbacks=list(callbacks))


def test_a_training_is_recorded_to_the_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = VramscopeCallback(tmp_path / "train.vram")
    loop = trainer(tmp_path, memory)
    loop.train()
    summary = require_run(memory.summary, tmp_path / "train.vram")
    assert [step.index for step in summary.steps] == [1, 2, 3]
    assert summary.passes["training"].peak.by_category["parameters"] == all_parameter_bytes()
    assert f"recording in {tmp_path / 'train.vram'}" in capsys.readouterr().err
    loop.train()  # the same callback records the next training anew
    require_run(memory.summary, tmp_path / "train.vram")


def test_what_training_gives_is_the_same(tmp_path: Path) -> None:
    weights = []
    for callbacks in ((), (VramscopeCallback(tmp_path / "train.vram", report=False),)):
        transformers.set_seed(0)
        loop = trainer(tmp_path, *callbacks)
        loop.train()
        weights.append([parameter.detach().clone() for parameter in loop.model.parameters()])
    assert all(torch.equal(alone, watched) for alone, watched in zip(*weights, strict=True))


def test_two_callbacks_are_one_too_many(tmp_path: Path) -> None:
    both = [VramscopeCallback(tmp_path / f"{name}.vram") for name in "ab"]
    loop = trainer(tmp_path, *both)
    with pytest.raises(UnsupportedError, match="recorded already"):
        loop.train()
    both[0].on_train_end(loop.args, loop.state, loop.control)
