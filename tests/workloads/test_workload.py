import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from vramscope.errors import TargetError, UsageError
from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.workload import PreparedWorkload, Workload, WorkloadOptions


def prepared(model: nn.Module, **changes: Any) -> PreparedWorkload:
    workload = PreparedWorkload(
        name="m",
        target="m",
        model=model,
        inputs=((), {}),
        training_inputs=((), {}),
        loss=lambda outputs, targets: outputs,
        targets=None,
        make_optimizers=lambda model: (),
        optimizer="AdamW",
        batch=1,
        seq=None,
        dtype="float32",
        device="cpu",
        amp=None,
        seed=0,
    )
    return replace(workload, **changes)


@pytest.mark.parametrize(
    ("inputs", "positional", "keywords"),
    [
        (torch.zeros(1), (torch.zeros(1),), {}),
        ([torch.zeros(1), 2], (torch.zeros(1), 2), {}),
        ({"x": 1}, (), {"x": 1}),
        ((), (), {}),
    ],
)
def test_inputs_become_a_call(inputs: Any, positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    assert Workload(nn.Identity(), inputs).call_arguments() == (positional, keywords)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": 3}, "Workload(model=…) must be an nn.Module, not int"),
        ({"model": nn.Identity}, "must be an nn.Module, not type"),
        ({"inputs": None}, "Workload(inputs=…) must be a tensor, a sequence of arguments or a mapping"),
        ({"inputs": "x"}, "not str"),
        ({"inputs": {1: torch.zeros(1)}}, "the keys must be argument names of forward, not 1"),
        ({"loss": 3}, "Workload(loss=…) must be callable, not int"),
        ({"optimizer": "adam"}, "Workload(optimizer=…) must be callable, not str"),
        ({"targets": torch.zeros(1)}, "without loss="),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(TargetError) as caught:
        Workload(**{"model": nn.Identity(), "inputs": torch.zeros(1), **fields})
    assert words in str(caught.value)


def test_options_survive_json() -> None:
    options = WorkloadOptions(
        batch=4,
        seq=16,
        inputs=(InputSpec("x", "int64", (4, 16), 99),),
        dtype="bfloat16",
        amp="float16",
        checkpoint=True,
        optimizer="sgd:momentum=0.9",
        foreach=False,
        fused=True,
        device="cuda:1",
        steps=3,
        seed=7,
    )
    assert WorkloadOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
    assert WorkloadOptions.from_json({}) == WorkloadOptions()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch": 0}, "--batch must be at least 1, not 0"),
        ({"seq": -1}, "--seq must be at least 1, not -1"),
        ({"steps": 0}, "--steps must be at least 1"),
        ({"dtype": "bfloat"}, "--dtype 'bfloat' is not supported: choose float32, bfloat16 or float16"),
        ({"dtype": "int8"}, "choose float32, bfloat16 or float16"),
        ({"amp": "float32"}, "--amp 'float32' is not supported"),
        ({"device": "gpu"}, "--device 'gpu' is no device: give cpu, cuda or cuda:N"),
        ({"batchs": 1}, "a workload has no option 'batchs'; did you mean 'batch'?"),
    ],
)
def test_options_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        WorkloadOptions.from_json(values)
    assert words in str(caught.value)


def test_tied_and_aliased_parameters_count_once() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 5), "b": nn.Linear(3, 5), "c": nn.Linear(3, 5)})
    model["b"].weight = model["a"].weight  # one Parameter, twice
    model["c"].weight = nn.Parameter(model["a"].weight.detach())  # two Parameters over one storage
    # one weight of 3 * 5, three biases of 5
    assert prepared(model).parameter_count == 15 + 3 * 5


def test_parts_of_one_storage_each_count() -> None:
    flat = torch.zeros(10)
    model = nn.ParameterList([nn.Parameter(flat[:4]), nn.Parameter(flat[4:])])
    assert prepared(model).parameter_count == 10


def test_input_tensors_carry_the_names_of_forward() -> None:
    class Model(nn.Module):
        def forward(self, images: Any, masks: Any, *more: Any, scale: Any = None, labels: Any = None) -> None: ...

    tensors = [torch.zeros(1) for _ in range(7)]
    inputs = ((tensors[0], [tensors[1], tensors[2]], tensors[3]), {"scale": tensors[4]})
    training = (inputs[0], {**inputs[1], "labels": tensors[5]})
    workload = prepared(Model(), inputs=inputs, training_inputs=training, targets=(tensors[6],))
    named = list(workload.input_tensors())
    assert [name for name, _ in named] == ["images", "masks.0", "masks.1", "input2", "scale", "labels", "targets.0"]
    assert all(found is tensor for (_, found), tensor in zip(named, tensors, strict=True))


def test_names_of_input_tensors_are_unique() -> None:
    class Model(nn.Module):
        def forward(self, targets: Any) -> None: ...

    first, second = torch.zeros(1), torch.zeros(1)
    arguments = ((first,), {})
    workload = prepared(Model(), inputs=arguments, training_inputs=arguments, targets=second)
    assert list(workload.input_tensors()) == [("targets", first), ("loss.targets", second)]
