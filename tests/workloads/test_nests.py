from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vramscope.recorders.labels import nested_tensors
from vramscope.workloads.nests import map_tensors

Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Output:
    logits: Tensor
    extra: Any = None


def nest() -> tuple[Any, list[Tensor]]:
    tensors = [torch.full((), float(number)) for number in range(5)]
    return {
        "a": tensors[0],
        "b": [tensors[1], (tensors[2], "text")],
        "c": Pair(tensors[3], 7),
        "d": Output(tensors[4]),
    }, tensors


def test_names_are_dotted_paths_in_order() -> None:
    value, tensors = nest()
    named = list(nested_tensors(value))
    assert [name for name, _ in named] == ["a", "b.0", "b.1.0", "c.0", "d.logits"]
    assert all(found is tensor for (_, found), tensor in zip(named, tensors, strict=True))


def test_a_lone_tensor_has_the_name_it_is_given() -> None:
    tensor = torch.zeros(1)
    assert list(nested_tensors(tensor, "x")) == [("x", tensor)]


def test_what_holds_no_tensor_yields_nothing() -> None:
    assert list(nested_tensors({"a": [1, "two", None, Output]})) == []


def test_map_keeps_the_shape_of_the_nest() -> None:
    value, _ = nest()
    mapped = map_tensors(value, lambda tensor: tensor + 10)
    assert [tensor.item() for _, tensor in nested_tensors(mapped)] == [10, 11, 12, 13, 14]
    assert mapped["b"][1][1] == "text"
    assert (type(mapped["c"]), mapped["c"].second) == (Pair, 7)
    assert type(mapped["d"]) is Output
    assert [tensor.item() for _, tensor in nested_tensors(value)] == [0, 1, 2, 3, 4]


def test_other_mappings_become_dicts() -> None:
    assert map_tensors(OrderedDict(x=1), lambda tensor: tensor) == {"x": 1}
