import random
from typing import Any

import numpy as np
import pytest
import torch

from vramscope.errors import TargetError, UsageError
from vramscope.workloads.models import BUILT_INS
from vramscope.workloads.targets import resolve
from vramscope.workloads.workload import WorkloadOptions


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gtp2", "unknown target 'gtp2'; did you mean 'gpt2'?"),
        ("zebra", "give one of mlp, resnet18, vit_b16, gpt2, lstm, package.module:factory, path/to/file.py:factory"),
        ("", "unknown target ''"),
        ("nothing_here:build", "there is no module 'nothing_here' here or installed"),
        ("nothing_here.py:build", "there is no file 'nothing_here.py'"),
        ("nothing_here.py", "names no factory: write nothing_here.py:FACTORY"),
        ("json:", "names no factory: write json:FACTORY"),
        (":build", "names no factory"),
        ("torchvison:resnet50", "did you mean 'torchvision'?"),
    ],
)
def test_what_cannot_be_found_is_refused_in_one_line(target: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        resolve(target)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "inputs", "targets", "batch", "seq"),
    [
        ("mlp", ("images", (8, 784)), (8,), 8, None),
        ("resnet18", ("images", (8, 3, 224, 224)), (8,), 8, None),
        ("vit_b16", ("images", (8, 3, 224, 224)), (8,), 8, None),
        ("gpt2", ("tokens", (1, 256)), (1, 256), 1, 256),
        ("lstm", ("tokens", (8, 128)), (8, 128), 8, 128),
    ],
)
def test_defaults_are_the_canonical_step_s(
    name: str, inputs: Any, targets: tuple[int, ...], batch: int, seq: int | None
) -> None:
    workload = resolve(name).prepare(WorkloadOptions())
    assert [(label, tuple(tensor.shape)) for label, tensor in workload.input_tensors()] == [
        inputs,
        ("targets", targets),
    ]
    assert (workload.name, workload.target, workload.batch, workload.seq) == (name, name, batch, seq)
    assert (workload.optimizer, workload.dtype, workload.notes) == ("AdamW", "float32", ())


@pytest.mark.parametrize("seed", [0, 2**40 + 1])
def test_one_seed_holds_for_every_generator(seed: int) -> None:
    def drawn() -> tuple[float, float, float]:
        resolve("mlp").prepare(WorkloadOptions(seed=seed))
        return random.random(), float(np.random.random()), torch.rand(()).item()

    assert drawn() == drawn()


def test_without_training_there_are_no_targets_and_the_inputs_are_the_same() -> None:
    both, inference = (resolve("mlp").prepare(WorkloadOptions(), training=training) for training in (True, False))
    assert inference.targets is None
    assert [name for name, _ in inference.input_tensors()] == ["images"]
    assert torch.equal(inference.inputs[0][0], both.inputs[0][0])


def test_inputs_are_the_same_objects_in_both_passes() -> None:
    workload = resolve("mlp").prepare(WorkloadOptions())
    assert workload.inputs[0][0] is workload.training_inputs[0][0]


def test_no_optimizer_is_made_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    start = torch.optim.SGD.__init__
    monkeypatch.setattr(torch.optim.SGD, "__init__", lambda *args, **more: (made.append(1), start(*args, **more))[1])
    workload = resolve("mlp").prepare(WorkloadOptions(optimizer="sgd"))
    assert made == []
    workload.build_optimizers()
    assert made == [1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_reaches_parameters_buffers_and_floating_inputs(dtype: str) -> None:
    workload = resolve("resnet18").prepare(WorkloadOptions(batch=1, dtype=dtype))
    wanted = getattr(torch, dtype)
    held = [*workload.model.parameters(), *workload.model.buffers(), workload.inputs[0][0]]
    assert {tensor.dtype for tensor in held if tensor.is_floating_point()} == {wanted}
    assert workload.targets.dtype == torch.int64
    assert workload.dtype == dtype


def test_muon_s_division_is_noted_for_training_alone() -> None:
    options = WorkloadOptions(optimizer="muon")
    # the two hidden matrices of the mlp: 784 * 512 + 512 * 256; the rest: biases 512 + 256 + 10 and 256 * 10
    note = "Muon trains 2 hidden matrices (532,480 parameters), AdamW the other 4 tensors (3,338)"
    assert resolve("mlp").prepare(options).notes == (note,)
    assert resolve("mlp").prepare(options, training=False).notes == ()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mlp", {"seq": 3}, "--seq does nothing for mlp: leave it out"),
        ("gpt2", {"seq": 1025}, "--seq 1025: gpt2 takes at most 1024 tokens"),
        ("mlp", {"inputs": ["x=float32[1]"]}, "--input does nothing for mlp: leave it out"),
        ("lstm", {"checkpoint": True}, "--checkpoint does not apply to lstm: its recurrence is one fused nn.LSTM call"),
        ("mlp", {"optimizer": "adamm"}, "did you mean 'adam'?"),
        ("mlp", {"optimizer": "sparseadam"}, "SparseAdam accepts only sparse gradients"),
        ("mlp", {"optimizer": "lbfgs", "foreach": True}, "LBFGS has no foreach implementation"),
    ],
)
def test_options_that_make_no_sense_for_a_target_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(name).prepare(WorkloadOptions.from_json(options))
    assert words in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--device cuda cannot be used here: (AssertionError|RuntimeError): "):
        resolve("mlp").prepare(WorkloadOptions(device="cuda"))


def test_every_built_in_can_be_resolved() -> None:
    assert [resolve(name).name for name in BUILT_INS] == list(BUILT_INS)
