"""Labels: what live objects say an address holds."""

from collections.abc import Iterable

import pytest
import torch
from torch import nn

from helpers import FLOAT32, INT64, MarkKind, recording_of
from vramscope.recorders.labels import (
    Label,
    label_gradients,
    label_kv_cache,
    label_model,
    label_optimizer_state,
    label_tensor,
    labels_to_keep,
    nested_tensors,
    plain_tensors,
)


def named(labels: Iterable[Label]) -> list[tuple[MarkKind, str, str, int]]:
    return [(item.kind, item.name, item.owner, item.size) for item in labels]


def sizes(tensor: torch.Tensor) -> list[int]:
    """Of the labels of a tensor, which are the same on the short way."""
    labels = list(label_tensor(MarkKind.INPUT, "x", tensor))
    assert list(labels_to_keep(MarkKind.INPUT, "x", tensor)) == [label.without_storage() for label in labels]
    return [item.size for item in labels]


def test_a_tensors_label_has_its_storages_address_and_bytes():
    tensor = torch.ones(3, 5)
    (item,) = label_tensor(MarkKind.INPUT, "x", tensor, "owner")
    assert (item.address, item.size) == (tensor.untyped_storage().data_ptr(), 15 * FLOAT32)
    assert (item.kind, item.name, item.owner, item.device) == (MarkKind.INPUT, "x", "owner", torch.device("cpu"))


def test_a_view_is_its_whole_storage():
    base = torch.ones(3, 5)
    (item,) = label_tensor(MarkKind.INPUT, "x", base[1:, 2:])
    assert (item.address, item.size) == (base.data_ptr(), 15 * FLOAT32)
    assert sizes(base[1:, 2:]) == [15 * FLOAT32]


def test_a_tensor_without_memory_has_no_label():
    assert sizes(torch.empty(0)) == []
    assert sizes(torch.empty(3, device="meta")) == []
    assert sizes(torch.ones(3).to_mkldnn()) == []  # its memory has no place that torch would tell


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
def test_shared_memory_is_the_block_that_its_mapping_reports(strategy: str):
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy(strategy)
    try:
        with recording_of() as running:
            (label,) = label_tensor(MarkKind.INPUT, "x", torch.ones(1000).share_memory_())
    finally:
        torch.multiprocessing.set_sharing_strategy(before)
    assert running.recording is not None
    events = running.recording.events
    assert (label.address, label.size) in set(zip(events.address.tolist(), events.size.tolist(), strict=True))


def test_a_sparse_tensor_is_its_indices_and_values():
    coo = torch.eye(3).to_sparse()  # 2 x 3 indices, 3 values
    assert sizes(coo) == [2 * 3 * INT64, 3 * FLOAT32]


@pytest.mark.filterwarnings("ignore:Sparse .*:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc])
def test_a_compressed_sparse_tensor_is_its_three_parts(layout):
    # the diagonal of 3 x 3: 4 pointers, 3 indices, 3 values
    parts = (torch.arange(4), torch.arange(3), torch.ones(3))
    assert sizes(torch.sparse_compressed_tensor(*parts, (3, 3), layout=layout)) == [4 * INT64, 3 * INT64, 3 * FLOAT32]


@pytest.mark.filterwarnings("ignore:Sparse .*:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_bsr, torch.sparse_bsc])
def test_a_block_sparse_tensor_is_its_three_parts(layout):
    # blocks of 2 x 2 on the diagonal of 4 x 4: 3 pointers, 2 indices, 2 * 4 values
    parts = (torch.arange(3), torch.arange(2), torch.ones(2, 2, 2))
    assert sizes(torch.sparse_compressed_tensor(*parts, (4, 4), layout=layout)) == [3 * INT64, 2 * INT64, 8 * FLOAT32]


def test_a_nested_tensor_is_its_buffer():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(5)], layout=torch.jagged)
    assert sum(sizes(nested)) >= 7 * FLOAT32


def test_a_wrapper_subclass_is_what_it_wraps():
    class Pair(torch.Tensor):
        @staticmethod
        def __new__(cls, first: torch.Tensor, second: torch.Tensor) -> "Pair":
            made = torch.Tensor._make_wrapper_subclass(cls, first.shape, dtype=first.dtype)
            made.first, made.second = first, second
            return made

        def __tensor_flatten__(self):
            return ["first", "second"], None

        @staticmethod
        def __tensor_unflatten__(inner, context, size, stride):
            return Pair(inner["first"], inner["second"])

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            raise NotImplementedError

    inner, outer = Pair(torch.ones(2), torch.ones(3)), torch.ones(5)
    assert [len(part) for part in plain_tensors(Pair(inner, outer))] == [2, 3, 5]
    assert sizes(Pair(inner, outer)) == [2 * FLOAT32, 3 * FLOAT32, 5 * FLOAT32]


def test_nests_have_dotted_names():
    a, b, c = (torch.ones(1) for _ in range(3))
    nest = {"one": a, "more": [b, ("text", {"deep": c}), None], 5: 7}
    assert [(name, tensor) for name, tensor in nested_tensors(nest)] == [
        ("one", a),
        ("more.0", b),
        ("more.1.1.deep", c),
    ]


def test_a_bare_tensor_has_the_name_it_was_given():
    tensor = torch.ones(1)
    assert list(nested_tensors(tensor, "x")) == [("x", tensor)]


def test_a_model_has_parameters_and_buffers_under_their_first_path():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(2, 3))
    model[2].weight = model[0].weight  # tied
    assert named(label_model(model)) == [
        (MarkKind.PARAMETER, "0.weight", "", 6 * FLOAT32),
        (MarkKind.PARAMETER, "0.bias", "", 3 * FLOAT32),
        (MarkKind.PARAMETER, "1.weight", "", 3 * FLOAT32),
        (MarkKind.PARAMETER, "1.bias", "", 3 * FLOAT32),
        (MarkKind.PARAMETER, "2.bias", "", 3 * FLOAT32),
        (MarkKind.BUFFER, "1.running_mean", "", 3 * FLOAT32),
        (MarkKind.BUFFER, "1.running_var", "", 3 * FLOAT32),
        (MarkKind.BUFFER, "1.num_batches_tracked", "", INT64),
    ]


def test_a_lazy_model_has_no_memory_yet():
    assert named(label_model(nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()))) == [
        (MarkKind.BUFFER, "1.num_batches_tracked", "", INT64)
    ]


class Cache:
    """As transformers' DynamicCache: layers that have keys and values, or nothing yet."""

    class Layer:
        def __init__(self, length: int | None) -> None:
            self.keys = self.values = None
            if length is not None:
                self.keys, self.values = torch.ones(length), torch.ones(length)

    def __init__(self, *lengths: int | None) -> None:
        self.layers = [self.Layer(length) for length in lengths]


class BothCaches:
    """As transformers' EncoderDecoderCache."""

    def __init__(self) -> None:
        self.self_attention_cache, self.cross_attention_cache = Cache(2), Cache(7)


def kv_names(output: object) -> list[tuple[str, int]]:
    return [(name, size) for kind, name, _, size in named(label_kv_cache(output)) if kind == MarkKind.KV_CACHE]


def test_a_kv_cache_of_layers():
    assert kv_names({"past_key_values": Cache(3, None)}) == [
        ("past_key_values.0.keys", 3 * FLOAT32),
        ("past_key_values.0.values", 3 * FLOAT32),
    ]


def test_a_kv_cache_of_an_encoder_and_a_decoder():
    assert [size // FLOAT32 for _, size in kv_names({"past_key_values": BothCaches()})] == [2, 2, 7, 7]


def test_a_kv_cache_that_is_a_nest():
    nest = ((torch.ones(2), torch.ones(3)),)
    assert kv_names({"past_key_values": nest}) == [
        ("past_key_values.0.0", 2 * FLOAT32),
        ("past_key_values.0.1", 3 * FLOAT32),
    ]


@pytest.mark.parametrize("output", [torch.ones(2), {"logits": torch.ones(2)}, (torch.ones(2),), None, "text"])
def test_an_output_without_a_kv_cache(output):
    assert kv_names(output) == []


def test_gradients_that_are_there():
    model = nn.Linear(2, 3)
    model.weight.grad = torch.ones(3, 2)
    assert named(label_gradients(model.named_parameters())) == [(MarkKind.GRADIENT, "weight", "weight", 6 * FLOAT32)]


def test_optimizer_state_by_key_and_owner():
    model = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert named(label_optimizer_state(optimizer, lambda parameter: names[id(parameter)])) == [
        (MarkKind.OPTIMIZER_STATE, "step", "weight", FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "exp_avg", "weight", 6 * FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "exp_avg_sq", "weight", 6 * FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "step", "bias", FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "exp_avg", "bias", 3 * FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "exp_avg_sq", "bias", 3 * FLOAT32),
    ]


def test_nested_optimizer_state():
    model = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.state[model.weight] = {"history": [torch.ones(2), {"deep": torch.ones(4)}], "number": 3}
    optimizer.state["everything"] = {"shared": torch.ones(5)}
    assert named(label_optimizer_state(optimizer, lambda _: "weight")) == [
        (MarkKind.OPTIMIZER_STATE, "history.0", "weight", 2 * FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "history.1.deep", "weight", 4 * FLOAT32),
        (MarkKind.OPTIMIZER_STATE, "shared", "", 5 * FLOAT32),
    ]


def test_a_parameter_that_nobody_named_has_a_nameless_owner():
    model = nn.Linear(2, 3, bias=False)
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.state[model.weight] = {"momentum_buffer": torch.ones(6)}
    assert named(label_optimizer_state(optimizer, lambda _: "")) == [
        (MarkKind.OPTIMIZER_STATE, "momentum_buffer", "", 6 * FLOAT32)
    ]
