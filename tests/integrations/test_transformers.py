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
from vramscope.recorders.scripts.surroundings import is_watched  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def rows(count: int) -> list[dict[str, Any]]:
    tokens = torch.randint(0, 100, (count, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": torch.tensor(number % 2)} for number, row in enumerate(tokens)]


class Fails(transformers.TrainerCallback):  # type: ignore[misc]  # the library is not typed
    """Ends the training after a number of steps."""

    def __init__(self, after: int, error: type[BaseException]) -> None:
        self.after, self.error = after, error

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.after:
            raise self.error("on purpose")


def trainer(folder: Path, *callbacks: Any, kind: Any = transformers.Trainer) -> Any:
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, vocab_size=100))
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments = transformers.TrainingArguments(
        str(folder / "results"), per_device_train_batch_size=2, num_train_epochs=1, **quiet
    )
    return kind(model=model, args=arguments, train_dataset=rows(12), callbacks=list(callbacks))


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
    with pytest.raises(UnsupportedError, match="recorded already, by another vramscope callback"):
        loop.train()
    assert not is_watched()
    assert not list(tmp_path.glob("*.vram*"))


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_a_training_that_fails_is_kept_up_to_there(tmp_path: Path, error: type[BaseException]) -> None:
    memory = VramscopeCallback(tmp_path / "train.vram", report=False)
    with pytest.raises(error):
        trainer(tmp_path, memory, Fails(2, error)).train()
    summary = require_run(memory.summary, tmp_path / "train.vram")  # and nothing of the session is left
    assert [step.index for step in summary.steps] == [1]
    assert f"the training ended with {error.__name__}" in summary.notes[-1]
    trainer(tmp_path).train()  # of which nobody asked
    require_run(memory.summary, tmp_path / "train.vram")


class Unheard(transformers.Trainer):  # type: ignore[misc]  # the library is not typed
    """A trainer with a loop of its own, which the callback cannot listen to."""

    def train(self) -> None:
        self.control = self.callback_handler.on_train_begin(self.args, transformers.TrainerState(), self.control)
        optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        for _ in range(3):
            self.model(**{key: value[None] for key, value in rows(1)[0].items()}).loss.backward()
            optimizer.step()
        raise ArithmeticError("on purpose")


def test_where_nobody_tells_of_a_failure_the_next_training_is_recorded_anew(tmp_path: Path) -> None:
    older, memory = (VramscopeCallback(tmp_path / f"{name}.vram", report=False) for name in "ab")
    with pytest.raises(ArithmeticError):
        trainer(tmp_path, older, kind=Unheard).train()
    trainer(tmp_path, memory).train()
    require_run(older.summary, tmp_path / "a.vram")
    summary = require_run(memory.summary, tmp_path / "b.vram")
    assert [step.index for step in summary.steps] == [1, 2, 3]
