"""The callback in Lightning's own Trainer."""

from pathlib import Path
from typing import Any

import pytest

lightning = pytest.importorskip("lightning.pytorch")
import torch  # noqa: E402 - after what may be missing
from tests.integrations.exact import all_parameter_bytes, parameter_bytes, require_run  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from vramscope.integrations.lightning import VramscopeCallback  # noqa: E402


class Net(lightning.LightningModule):
    def __init__(self, fails_at: int = -1, runs_out_at: int = -1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(28, 64), nn.ReLU(), nn.Linear(64, 4))
        self.fails_at, self.runs_out_at = fails_at, runs_out_at

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        if number == self.fails_at:
            raise ArithmeticError("on purpose")
        if number == self.runs_out_at:
            torch.empty(2**50, dtype=torch.uint8)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def fit(folder: Path, module: Net, *callbacks: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = TensorDataset(torch.randn(96, 28, generator=generator), torch.randint(0, 4, (96,), generator=generator))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **quiet,
    )
    trainer.fit(module, DataLoader(rows, batch_size=16), DataLoader(rows, batch_size=16))


@pytest.mark.filterwarnings("ignore")  # Lightning's own advice on workers
def test_a_training_is_recorded_to_the_byte(tmp_path: Path) -> None:
    memory, module = VramscopeCallback(tmp_path / "fit.vram", report=False), Net()
    fit(tmp_path, module, memory)
    summary = require_run(memory.summary, tmp_path / "fit.vram")
    assert set(summary.passes) == {"training"}  # the sanity check came before
    assert [step.index for step in summary.steps] == [1, 2, 3]
    peak = summary.passes["training"].peak.by_category
    assert peak["parameters"] == all_parameter_bytes()
    # Adam keeps two copies of each parameter, and a counter of 4 bytes for each of the 4 tensors
    assert peak["optimizer_state"] == 2 * parameter_bytes(module) + 4 * 4
    # 16 rows of 28 numbers and 16 labels of 8 bytes, and at most the batch before, which the loop still holds
    assert peak["inputs"] in {16 * (28 * 4 + 8), 2 * 16 * (28 * 4 + 8)}
    assert peak["unattributed"] == 0


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_fails_is_kept_up_to_there(tmp_path: Path) -> None:
    memory = VramscopeCallback(tmp_path / "fit.vram", report=False)
    with pytest.raises(ArithmeticError):
        fit(tmp_path, Net(fails_at=2), memory)
    summary = require_run(memory.summary, tmp_path / "fit.vram")
    assert [step.index for step in summary.steps] == [1]
    assert not summary.complete
    assert "the training ended with ArithmeticError" in summary.notes[-1]


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_runs_out_of_memory_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = VramscopeCallback(tmp_path / "fit.vram", report=False)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        fit(tmp_path, Net(runs_out_at=2), memory)
    printed = capsys.readouterr().err
    assert "out of memory on cpu: 1,024.0 TiB (1,125,899,906,842,624 B) asked for" in printed
    assert "optimizer state" in printed  # Adam's, held at that moment


@pytest.mark.filterwarnings("ignore")
def test_what_training_gives_is_the_same(tmp_path: Path) -> None:
    weights = []
    for callbacks in ((), (VramscopeCallback(tmp_path / "fit.vram", first=0, last=None, report=False),)):
        torch.manual_seed(0)
        module = Net()
        fit(tmp_path, module, *callbacks)
        weights.append([parameter.detach().clone() for parameter in module.parameters()])
    assert all(torch.equal(alone, watched) for alone, watched in zip(*weights, strict=True))
