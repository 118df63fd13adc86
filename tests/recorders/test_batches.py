"""Which tensors objects of the program's own classes keep."""

from collections import UserDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vramscope.recorders import batches
from vramscope.recorders.batches import tensors_in_objects

INPUTS, LABELS = torch.ones(4, 3), torch.ones(4)


class Holder:
    """An object that keeps whatever it is given; asking it for anything else is an error of the program's."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def __iter__(self) -> Any:
        raise AssertionError

    def __hash__(self) -> int:
        raise AssertionError

    @property
    def computed(self) -> Tensor:
        raise AssertionError


class Slotted:
    __slots__ = ("missing", "x")

    def __init__(self, x: Tensor) -> None:
        self.x = x


class Proxy(Slotted):
    """Has code in the place of its ``__dict__``, and calls a slot of another class's by a name of its own."""

    __slots__ = ("y",)
    other = vars(type("Other", (), {"__slots__": "z"}))["z"]

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__(x)
        self.y = y

    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # as the proxies of some libraries do
        raise AssertionError


class Dictionary(dict[str, Any]):
    """A dictionary of the program's own."""


class Store(UserDict[str, Any]):
    """A mapping of the program's own."""


def found_in(nest: Any) -> list[str]:
    return ["inputs" if tensor is INPUTS else "labels" for tensor in tensors_in_objects(nest)]


def test_attributes_and_what_containers_among_them_hold_are_found() -> None:
    assert found_in(Holder(x=INPUTS, size=4, rest={("to", "from"): [LABELS]})) == ["inputs", "labels"]
    assert found_in(([Holder(x=INPUTS)], {"batch": Slotted(LABELS)})) == ["inputs", "labels"]
    assert found_in(SimpleNamespace(x=INPUTS)) == ["inputs"]


def test_no_code_of_the_program_runs_to_find_attributes() -> None:
    holder = Holder()
    holder.__dict__ = Dictionary(x=INPUTS)
    assert found_in((Proxy(INPUTS, LABELS), holder)) == ["labels", "inputs", "inputs"]


def test_mappings_are_looked_into_where_an_object_keeps_them_and_other_objects_are_not() -> None:
    assert found_in(Holder(stores={"node": Store(x=INPUTS)}, trainer=Holder(state=LABELS))) == ["inputs"]


def test_what_lies_in_containers_alone_is_left_to_others() -> None:
    assert found_in({"x": INPUTS, "rest": (LABELS, [1, "two", None])}) == []
    assert found_in(INPUTS) == []


@pytest.mark.parametrize("item", [nn.Linear(3, 4), torch.optim.SGD([LABELS]), TensorDataset(INPUTS), Holder])
def test_modules_optimizers_data_sets_and_classes_are_not_looked_into(item: Any) -> None:
    assert found_in((item, Holder(item=item, weight=nn.Parameter(torch.ones(2))))) == []


def test_no_more_is_looked_at_than_is_soon_done(monkeypatch: pytest.MonkeyPatch) -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert found_in(Holder(cyclic=cyclic, y=LABELS)) == ["labels"]
    monkeypatch.setattr(batches, "_MOST", 5)
    assert found_in(Holder(words=dict.fromkeys(range(9)), rest=[LABELS], y=LABELS)) == ["labels"]
