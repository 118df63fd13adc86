import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from vramscope.errors import TargetError, UsageError, WorkloadError
from vramscope.workloads.losses import SURROGATE_NOTE
from vramscope.workloads.steps import NoPhases, inference_step, training_step
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

HEADER = "import torch\nfrom torch import nn\nfrom vramscope.workloads.workload import Workload\n"
HEADER_LINES = HEADER.count("\n")
WORKLOAD = """
def build(batch: int = 4):
    return Workload(
        nn.Linear(3, 2),
        torch.randn(batch, 3),
        loss=nn.functional.cross_entropy,
        targets=torch.zeros(batch, dtype=torch.int64),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    )
"""


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of the user's; what targets import from it is forgotten afterwards."""
    path = list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith(("_vramscope_target_", "userpackage", "beside_it"))]:
        del sys.modules[name]


def prepare(source: str, target: str = "user.py:build", training: bool = True, **options: Any) -> PreparedWorkload:
    Path("user.py").write_text(HEADER + dedent(source), encoding="utf-8")
    return resolve(target).prepare(WorkloadOptions.from_json(options), training)


def refusal(source: str, target: str = "user.py:build", **options: Any) -> str:
    with pytest.raises((TargetError, UsageError)) as caught:
        prepare(source, target, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_workload_from_a_file() -> None:
    workload = prepare(WORKLOAD)
    assert (workload.name, workload.target, workload.batch) == ("user.py:build", "user.py:build", 4)
    assert [(name, tuple(tensor.shape)) for name, tensor in workload.input_tensors()] == [
        ("input", (4, 3)),
        ("targets", (4,)),
    ]
    (optimizer,) = workload.build_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    assert (workload.optimizer, workload.notes) == ("the Workload's own", ())
    inference_step(workload, NoPhases())
    training_step(workload, (optimizer,), NoPhases())


def test_a_workload_from_a_package(user_folder: Path) -> None:
    package = user_folder / "userpackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(HEADER + WORKLOAD)
    workload = resolve("userpackage.models:build").prepare(WorkloadOptions(batch=2))
    assert (workload.name, workload.batch) == ("userpackage.models:build", 2)


def test_a_file_imports_what_lies_beside_it(user_folder: Path) -> None:
    folder = user_folder / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "beside_it.py").write_text("SIZE = 7")
    (folder / "user.py").write_text(
        f"{HEADER}from beside_it import SIZE\n"
        "def build():\n    return Workload(nn.Linear(SIZE, 1), torch.ones(1, SIZE))"
    )
    workload = resolve("deep/er/user.py:build").prepare(WorkloadOptions())
    assert workload.model.in_features == 7
    assert workload.name == "user.py:build"


def test_resolving_runs_none_of_the_user_s_code(user_folder: Path) -> None:
    (user_folder / "user.py").write_text("raise SystemExit('imported')")
    (user_folder / "userpackage").mkdir()
    (user_folder / "userpackage" / "__init__.py").write_text("raise SystemExit('imported')")
    resolve("user.py:build")
    resolve("userpackage.models:build")


def test_the_model_and_inputs_are_seeded() -> None:
    first, again, other = (prepare(WORKLOAD, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.model.weight, again.model.weight)
    assert torch.equal(first.inputs[0][0], again.inputs[0][0])
    assert not torch.equal(first.model.weight, other.model.weight)


def test_a_file_whose_import_fails_gives_no_module_of_before() -> None:
    failing = WORKLOAD + "raise RuntimeError('no weights were found')\n"
    for _ in range(2):
        assert "importing user.py failed: RuntimeError: no weights were found" in refusal(failing)
    prepare(WORKLOAD)
    assert "importing user.py failed: RuntimeError: no weights were found" in refusal(failing)


def test_a_factory_gets_the_options_its_signature_accepts() -> None:
    source = """
        def build(batch, seq, dtype, device, checkpoint, extra=5):
            assert (batch, seq, dtype, device.type, checkpoint) == (3, 6, torch.bfloat16, "cpu", True)
            return Workload(nn.Linear(seq, 1), torch.ones(batch, seq))
    """
    workload = prepare(source, batch=3, seq=6, dtype="bfloat16", checkpoint=True)
    assert (workload.batch, workload.seq, workload.dtype) == (3, 6, "bfloat16")


def test_a_factory_that_requires_them_gets_defaults() -> None:
    source = """
        def build(batch, seq, dtype, device, checkpoint):
            assert (batch, seq, dtype, device.type, checkpoint) == (8, 128, torch.float32, "cpu", False)
            return Workload(nn.Linear(seq, 1), torch.ones(batch, seq))
    """
    assert prepare(source).batch == 8


def test_a_factory_s_own_defaults_stand_when_nothing_is_asked() -> None:
    source = """
        def build(batch=5, seq=9, dtype=torch.float64, checkpoint=True):
            assert (batch, seq, dtype, checkpoint) == (5, 9, torch.float64, True)
            return Workload(nn.Linear(seq, 1).to(dtype), torch.ones(batch, seq, dtype=dtype))
    """
    workload = prepare(source)
    assert (workload.batch, workload.seq, workload.dtype) == (5, 9, "float64")
    assert "the model is float64, as the target built it: --dtype float32 casts nothing" in workload.notes


def test_a_factory_with_keyword_arguments_gets_what_was_asked() -> None:
    source = """
        def build(**options):
            assert sorted(options) == ["batch", "device"]
            return Workload(nn.Linear(3, 1), torch.ones(options["batch"], 3))
    """
    assert prepare(source, batch=2).batch == 2


def test_a_module_class_is_a_factory_and_is_fed_by_input() -> None:
    source = """
        class Net(nn.Module):
            def __init__(self, width=3):
                super().__init__()
                self.layer = nn.Linear(width, 2)
            def forward(self, images, mask=None):
                return {"count": torch.ones(1, dtype=torch.int64), "logits": self.layer(images)}
    """
    workload = prepare(source, "user.py:Net", inputs=["images=float32[4,3]"])
    assert [(name, tuple(tensor.shape)) for name, tensor in workload.input_tensors()] == [("images", (4, 3))]
    assert workload.notes == (SURROGATE_NOTE,)
    losses: list[float] = []
    training_step(workload, workload.build_optimizers(), NoPhases(), losses.append)
    assert len(losses) == 1


def test_the_surrogate_loss_is_not_noted_in_inference() -> None:
    source = "def build():\n    return nn.Linear(3, 2)\n"
    assert prepare(source, training=False, inputs=["input=float32[4,3]"]).notes == ()


def test_a_model_without_any_loss_fails_when_trained() -> None:
    source = """
        class Net(nn.Linear):
            def forward(self, images):
                return super().forward(images).argmax()
        def build():
            return Net(3, 2)
    """
    workload = prepare(source, inputs=["images=float32[4,3]"])
    with pytest.raises(WorkloadError, match="no loss to be had"):
        training_step(workload, workload.build_optimizers(), NoPhases())


def test_a_wrong_shape_fails_with_a_line_of_advice() -> None:
    workload = prepare("def build():\n    return nn.Linear(3, 2)\n", inputs=["input=float32[4,5]"])
    with pytest.raises(
        WorkloadError, match=r"forward failed: RuntimeError: mat1 and mat2.*check the inputs' names, shapes"
    ):
        inference_step(workload, NoPhases())


def test_a_model_without_inputs_needs_none() -> None:
    source = """
        class Net(nn.Linear):
            def forward(self):
                return self.weight.sum()
        def build():
            return Net(3, 2)
    """
    training_step(workload := prepare(source), workload.build_optimizers(), NoPhases())


def test_input_replaces_a_workload_s_own_inputs() -> None:
    workload = prepare(WORKLOAD, inputs=["input=float32[9,3]"])
    assert [tuple(tensor.shape) for name, tensor in workload.input_tensors() if name == "input"] == [(9, 3)]
    assert "--input replaces the Workload's own inputs" in workload.notes


def test_dtype_casts_what_a_workload_brings_and_keeps_shared_tensors_shared() -> None:
    source = """
        class Net(nn.Bilinear):
            pass
        def build():
            same = torch.ones(4, 3)
            return Workload(Net(3, 3, 1), [same, same], loss=nn.functional.mse_loss, targets=[torch.ones(4, 1)][0])
    """
    workload = prepare(source, dtype="bfloat16")
    first, second = workload.inputs[0]
    assert first is second
    assert first.dtype == workload.targets.dtype == torch.bfloat16


def test_without_a_cast_tensors_are_the_very_ones_the_factory_made() -> None:
    source = """
        X = torch.ones(4, 3)
        def build():
            return Workload(nn.Linear(3, 1), {"input": X})
    """
    workload = prepare(source)
    assert workload.inputs[1]["input"] is sys.modules["_vramscope_target_user"].X


@pytest.mark.parametrize("options", [{"optimizer": "rmsprop"}, {"optimizer": "adam", "foreach": False}])
def test_an_optimizer_that_is_asked_for_replaces_the_workload_s_own(options: dict[str, Any]) -> None:
    workload = prepare(WORKLOAD, **options)
    assert workload.notes == (f"--optimizer {options['optimizer']} replaces the Workload's own optimizer",)
    assert type(workload.build_optimizers()[0]).__name__.lower() == options["optimizer"]


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ("lambda model: 3", "the Workload's optimizer factory returned int: it must return a torch Optimizer"),
        (
            "lambda model: torch.optim.SGD([])",
            "the Workload's optimizer factory failed: ValueError: optimizer got an empty",
        ),
    ],
)
def test_a_workload_s_own_optimizer_that_fails(optimizer: str, words: str) -> None:
    workload = prepare(f"def build():\n    return Workload(nn.Linear(3, 1), torch.ones(1, 3), optimizer={optimizer})\n")
    with pytest.raises(TargetError) as caught:
        workload.build_optimizers()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        # line numbers count from the header's end
        ("def build():\n    raise ValueError('no data')\n", "user.py:build raised ValueError: no data (user.py:{2})"),
        ("def build():\n    raise SystemExit(3)\n", "user.py:build raised SystemExit: 3 (user.py:{2})"),
        ("def build():\n    return nn.Linear('a', 2)\n", "user.py:build raised TypeError"),
        (
            "def build():\n    return 3\n",
            "user.py:build returned int: a factory must return an nn.Module or a Workload",
        ),
        ("def build():\n    pass\n", "user.py:build returned NoneType"),
        ("def build():\n    return nn.Linear\n", "user.py:build returned type"),
        ("def build():\n    return Workload(3, 4)\n", "must be an nn.Module, not int (user.py:{2})"),
        ("def build(hidden):\n    pass\n", "user.py:build requires the argument 'hidden'"),
        ("def build(batch, /):\n    pass\n", "user.py:build requires the argument 'batch'"),
        ("def builds():\n    pass\n", "user.py has no 'build'; did you mean 'builds'?"),
        ("build = 3\n", "user.py:build is a int, not a factory: name a function"),
        ("build = nn.Linear(2, 3)\n", "user.py:build is a Linear, not a factory"),
        (
            "import nothing_here\n",
            "importing user.py failed: ModuleNotFoundError: No module named 'nothing_here' (user.py:{1})",
        ),
        ("x = = 3\n", "importing user.py failed: SyntaxError: invalid syntax"),
        ("raise SystemExit\n", "importing user.py failed: SystemExit (user.py:{1})"),
        ("1 / 0\n", "importing user.py failed: ZeroDivisionError: division by zero (user.py:{1})"),
        (
            "def build():\n    return nn.Linear(2, 3)\n",
            "a bare Linear: give its inputs (input) as --input NAME=DTYPE[SHAPE]",
        ),
        ("def build():\n    return nn.LazyLinear(3)\n", "LazyLinear: give its inputs"),
        (
            "def build():\n    return Workload(nn.LazyLinear(3), torch.ones(1, 2))\n",
            "LazyLinear has lazy parameters without a shape: run its forward once in the factory",
        ),
    ],
)
def test_bad_factories(source: str, words: str) -> None:
    for line in (1, 2):
        words = words.replace(f"{{{line}}}", str(HEADER_LINES + line))
    assert words in refusal(source)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seq": 4}, "--seq does nothing: user.py:build takes no argument named 'seq'"),
        ({"checkpoint": True}, "--checkpoint does nothing: user.py:build takes no argument named 'checkpoint'"),
        ({"inputs": ["inputs=float32[1,3]"]}, "Linear.forward takes no input named 'inputs'; did you mean 'input'?"),
        ({"fused": True}, "--foreach and --fused do not reach a Workload's own optimizer"),
    ],
)
def test_options_that_a_factory_does_not_take_are_refused(options: dict[str, Any], words: str) -> None:
    assert words in refusal(WORKLOAD, **options)


def test_a_module_that_cannot_be_imported_is_refused(user_folder: Path) -> None:
    (user_folder / "userpackage").mkdir()
    (user_folder / "userpackage" / "__init__.py").write_text("")
    with pytest.raises(TargetError, match=r"importing userpackage\.gone failed: ModuleNotFoundError: No module named"):
        resolve("userpackage.gone:build").prepare(WorkloadOptions())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("uesr.py:build", "there is no file 'uesr.py'; did you mean 'user.py'?"),
        ("nowhere/user.py:build", "there is no file 'nowhere/user.py'"),
        ("uesr:build", "there is no module 'uesr' here or installed; did you mean 'user'?"),
        ("./notes.txt:build", "'notes.txt' is no Python file"),
        ("user.py", "names no factory: write user.py:FACTORY"),
    ],
)
def test_near_misses(user_folder: Path, target: str, words: str) -> None:
    (user_folder / "user.py").write_text("")
    (user_folder / "notes.txt").write_text("")
    with pytest.raises(TargetError) as caught:
        resolve(target)
    assert words in str(caught.value)


def test_the_cause_is_kept_for_debugging() -> None:
    with pytest.raises(TargetError) as caught:
        prepare("def build():\n    raise ValueError('no data')\n")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_nested_factory() -> None:
    source = """
        class Models:
            @staticmethod
            def small():
                return Workload(nn.Linear(3, 1), torch.ones(1, 3))
    """
    assert prepare(source, "user.py:Models.small").name == "user.py:Models.small"


def test_a_model_that_cannot_be_moved_is_refused() -> None:
    source = """
        class Stuck(nn.Linear):
            def _apply(self, function, recurse=True):
                raise RuntimeError("stuck")
        def build():
            return Workload(Stuck(3, 1), torch.ones(1, 3))
    """
    assert "Stuck cannot be moved to cpu as bfloat16: RuntimeError: stuck" in refusal(source, dtype="bfloat16")
