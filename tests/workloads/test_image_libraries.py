"""timm and torchvision themselves cannot run everywhere; stand-ins written to their documentation do here."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vramscope.errors import TargetError, UsageError
from vramscope.workloads.losses import SURROGATE_NOTE
from vramscope.workloads.steps import NoPhases, inference_step, training_step
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=1000, auxiliary=False):
        super().__init__()
        self.num_classes, self.auxiliary, self.recomputes = classes, auxiliary, False
        self.head = nn.Linear(3, classes or 3)

    def forward(self, x):
        logits = self.head(x.mean(dim=(2, 3)))
        return (logits, logits) if self.auxiliary and self.training else logits
"""
TIMM = (
    NET
    + """
class Checkpointable(Net):
    def set_grad_checkpointing(self, enable=True):
        self.recomputes = enable

class data:
    @staticmethod
    def resolve_model_data_config(model):
        return {"input_size": (3, 32, 48)}

def list_models():
    return ["resnet50", "features", "broken", "plain"]

def create_model(name, pretrained):
    assert pretrained is False
    if name == "broken":
        raise RuntimeError("cannot be built")
    return {"resnet50": Checkpointable, "features": lambda: Checkpointable(0), "plain": Net}[name.split(".")[0]]()
"""
)
TORCHVISION = (
    "import sys\nfrom torchvision import models\n",
    NET
    + """
def list_models(module=None):
    if module is None:
        return ["resnet50", "googlenet", "inception_v3", "raft_small"]
    assert module.__name__ == __name__  # the classifiers alone
    return ["resnet50", "googlenet", "inception_v3"]

def get_model(name, weights):
    assert weights is None
    return Net(auxiliary=name == "googlenet")
""",
)


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "timm.py").write_text(TIMM)
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(TORCHVISION[0])
    (tmp_path / "torchvision" / "models.py").write_text(TORCHVISION[1])
    return tmp_path


def prepare(target: str, **options: Any) -> PreparedWorkload:
    return resolve(target).prepare(WorkloadOptions.from_json(options))


@pytest.mark.parametrize(
    ("target", "image"),
    [
        ("timm:resnet50", (8, 3, 32, 48)),
        ("timm:resnet50.tagged", (8, 3, 32, 48)),
        ("torchvision:resnet50", (8, 3, 224, 224)),
        ("torchvision:googlenet", (8, 3, 224, 224)),
        ("torchvision:inception_v3", (8, 3, 299, 299)),
    ],
)
def test_classifiers_run_both_steps(stand_ins: Path, target: str, image: tuple[int, ...]) -> None:
    workload = prepare(target)
    assert [(name, tuple(tensor.shape)) for name, tensor in workload.input_tensors()] == [
        ("x", image),
        ("targets", (8,)),
    ]
    assert (workload.name, workload.batch, workload.notes) == (target.partition(":")[2], 8, ())
    inference_step(workload, NoPhases())
    losses: list[float] = []
    training_step(workload, workload.build_optimizers(), NoPhases(), losses.append)
    # 1000 classes, almost even: the loss is near ln(1000) = 6.9
    assert losses[0] == pytest.approx(6.9, abs=1.5)


def test_a_timm_model_without_classes_gets_the_surrogate_loss(stand_ins: Path) -> None:
    workload = prepare("timm:features", batch=2)
    assert (workload.targets, workload.notes) == (None, (SURROGATE_NOTE,))
    training_step(workload, workload.build_optimizers(), NoPhases())


def test_timm_s_own_checkpointing_is_used(stand_ins: Path) -> None:
    assert prepare("timm:resnet50", checkpoint=True).model.recomputes is True
    assert prepare("timm:resnet50").model.recomputes is False


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("timm:resnet5", {}, "the library has no such model; did you mean 'resnet50'?"),
        ("torchvision:goglenet", {}, "the library has no such model; did you mean 'googlenet'?"),
        ("torchvision:raft_small", {}, "torchvision:raft_small is no image classifier, so what it takes"),
        ("timm:broken", {}, "building the model failed: RuntimeError: cannot be built"),
        ("timm:plain", {"checkpoint": True}, "--checkpoint does not apply to timm:plain: AttributeError"),
        ("torchvision:resnet50", {"checkpoint": True}, "torchvision's models have no such option"),
        ("timm:resnet50", {"seq": 4}, "--seq does nothing for timm:resnet50"),
        ("timm:resnet50", {"inputs": ["x=float32[1]"]}, "--input does nothing for timm:resnet50"),
    ],
)
def test_bad_input(stand_ins: Path, target: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((TargetError, UsageError)) as caught:
        prepare(target, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_library_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(TargetError, match=f"{library}:x: {library} is not installed: pip install {library}"):
        resolve(f"{library}:x")


def test_a_library_that_is_there_but_broken_is_said_to_be(stand_ins: Path) -> None:
    (stand_ins / "timm.py").write_text("import a_library_that_is_not_there")
    with pytest.raises(TargetError) as caught:
        prepare("timm:resnet50")
    assert "timm is installed but cannot be imported: ModuleNotFoundError: No module named 'a_library" in str(
        caught.value
    )
    assert "make `python -c 'import timm'` work first" in str(caught.value)


def test_dtype_reaches_the_images(stand_ins: Path) -> None:
    assert prepare("timm:resnet50", dtype="bfloat16").inputs[0][0].dtype == torch.bfloat16
