"""What a model has given is known by its memory, for as long as that lives."""

import torch

from vramscope.recorders.given import GivenOut


def test_what_was_given_is_known_in_any_nest_and_view_as_long_as_it_lives() -> None:
    given, output, other = GivenOut(), {"logits": [torch.ones(4, 2)]}, torch.ones(4, 2)
    assert not given.includes(other)
    given.add(output)
    assert given.includes(output["logits"][0].view(8))
    assert not given.includes(other)
    address = output["logits"][0].untyped_storage().data_ptr()
    assert given.holds(address)
    output.clear()
    assert not given.holds(address)


def test_nothing_is_known_after_a_new_beginning() -> None:
    given, output = GivenOut(), torch.ones(2)
    given.add(output)
    given.clear()
    assert not given.includes(output)
