"""Which tensors a batch holds in objects of the program's own classes."""

from typing import Any

import torch
from torch import Tensor, nn

from vramscope.recorders.scripts import batches
from vramscope.recorders.scripts.batches import tensors_in_objects

INPUTS, LABELS = torch.ones(4, 3), torch.ones(4)


class Holder:
    """An object that keeps whatever it is given; asking it for anything else is an error of the program's."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def __hash__(self) -> int:
        raise AssertionError


def names_of(batch: Any) -> dict[str, Tensor]:
    found = tensors_in_objects(batch)
    assert all(tensor is INPUTS or tensor is LABELS for tensor in found.values())
    return {name: "inputs" if tensor is INPUTS else "labels" for name, tensor in found.items()}


def test_attributes_and_what_they_hold_are_found() -> None:
    store = {"x": INPUTS, ("to", "from"): [LABELS], "size": 4}
    assert names_of(Holder(_store=store)) == {"_store.x": "inputs", "_store.1.0": "labels"}
    assert names_of([Holder(x=INPUTS), Holder(inner=Holder(y=LABELS))]) == {"0.x": "inputs", "1.inner.y": "labels"}


def test_what_lies_in_containers_alone_is_left_to_others() -> None:
    assert names_of({"x": INPUTS, "rest": (LABELS, [1, "two", None])}) == {}
    assert names_of(INPUTS) == {}


def test_modules_classes_and_objects_of_libraries_are_not_looked_into() -> None:
    model = nn.Linear(3, 4)
    assert names_of(Holder(model=model, kind=Holder, random=torch.Generator(), y=LABELS)) == {"y": "labels"}


def test_objects_may_hold_each_other() -> None:
    one = Holder(x=INPUTS)
    one.other = Holder(other=one, y=LABELS)
    assert names_of(one) == {"x": "inputs", "other.y": "labels"}


def test_no_more_is_looked_at_than_is_soon_done(monkeypatch) -> None:
    monkeypatch.setattr(batches, "_MOST", 3)
    assert names_of(Holder(examples=[Holder() for _ in range(9)], y=LABELS)) == {"y": "labels"}
    assert names_of(Holder(examples=[Holder() for _ in range(9)], inner=Holder(y=LABELS))) == {}
