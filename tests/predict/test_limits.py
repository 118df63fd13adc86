"""What data would decide gets a substitute and a note; what cannot be known is named; what cannot run says why."""

import pytest

from vramscope.errors import WorkloadError
from vramscope.predict.estimate import predict_passes
from vramscope.predict.gpus import find_gpu
from vramscope.workloads.workload import WorkloadOptions

MODELS = """
import torch
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from vramscope import Workload

torch.library.define("{space}::scale", "(Tensor x) -> Tensor")
torch.library.define("{space}::unknown", "(Tensor x) -> Tensor")
torch.library.define("{space}::version", "() -> int")
torch.library.impl("{space}::version", "default", lambda: 3)

@torch.library.register_fake("{space}::scale")
def _(x):
    return torch.empty_like(x)

class Reads(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.linear, self.how = nn.Linear(4, 4), how

    def forward(self, x):
        return self.linear(x) * self.how(x)

class Convolves(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        return self.convolution(x)

class Attends(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)

class Pads(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

    def forward(self, x):
        return self.encoder(x, src_key_padding_mask=torch.zeros(x.shape[:2], dtype=torch.bool))

def item(): return Workload(Reads(lambda x: x.sum().item()), torch.rand(3, 4))
def alignments():
    lengths = lambda x: nn.functional.ctc_loss(x.log_softmax(-1)[:, None], torch.ones(1, 2), [3], [2])
    return Workload(Reads(lengths), torch.rand(3, 4))
def linear(): return Workload(nn.Linear(4, 4), torch.rand(3, 4))
def condition(): return Workload(Reads(lambda x: 2 if x.sum() > 0 else 1), torch.rand(3, 4))
def one_hot(): return Workload(Reads(lambda x: nn.functional.one_hot(x.argmax(1)).sum()), torch.rand(3, 4))
def nonzero(): return Workload(Reads(lambda x: torch.nonzero(x).shape[0]), torch.rand(3, 4))
def mask(): return Workload(Reads(lambda x: x[x > 0].numel()), torch.rand(3, 4))
def boxes(): return Workload(Reads(lambda x: nn.functional.one_hot(x.argmax(1)).nonzero().shape[0]), torch.rand(3, 4))
def unique(): return Workload(Reads(lambda x: torch.unique(x).numel()), torch.rand(3, 4))
def custom(): return Workload(Reads(lambda x: torch.ops.{space}.scale(x)), torch.rand(3, 4))
def custom_of_ones(): return Workload(Reads(lambda x: torch.ops.{space}.scale(torch.ones(4))), torch.rand(3, 4))
def version(x): return torch.ops.{space}.version() + torch.arange(5).sum().item()
def numbers(): return Workload(Reads(version), torch.rand(3, 4))
def chosen(): return Workload(Reads(lambda x: (2.0, 3.0)[int(x.sum().item()) + 1]), torch.rand(3, 4))
def unknown(): return Workload(Reads(lambda x: torch.ops.{space}.unknown(x)), torch.rand(3, 4))
def numpy(): return Workload(Reads(lambda x: float(x.numpy().sum())), torch.rand(3, 4))
def solved(): return Workload(Reads(lambda x: torch.linalg.lstsq(x, x).solution.sum()), torch.rand(4, 4))
def even(): return Workload(Reads(lambda x: torch.bincount((x > 0).long().flatten()).sum()), torch.rand(3, 4))
def checked(): return Workload(Reads(lambda x: x.sum() / (x > 0).all().item()), torch.rand(3, 4))
def insists():
    def refuse(x):
        raise ValueError("no " + str((x > 0).sum().item()))
    return Workload(nn.Linear(refuse(torch.rand(3)), 4), torch.rand(3, 4))
def jagged():
    parts = lambda x: torch.nested.nested_tensor([x[0], x[1, :2]], layout=torch.jagged).values().sum()
    return Workload(Reads(parts), torch.rand(3, 4))
def compressed():
    matrix = torch.eye(4).to_sparse_csr()
    return Workload(Reads(lambda x: (matrix @ x.T).T), torch.rand(3, 4))
def flexible():
    heads = lambda x: x.reshape(1, 1, 3, 4)
    attend = lambda x: flex_attention(heads(x), heads(x), heads(x)).view(3, 4)
    return Workload(nn.Sequential(nn.Linear(4, 4), Reads(attend)), torch.rand(3, 4))
def sparse():
    given = torch.sparse_coo_tensor(torch.zeros(1, 3, dtype=torch.int64), torch.ones(3, 4), (5, 4))
    return Workload(Reads(lambda x: x.sum() + given.coalesce().to_dense().sum()), torch.rand(3, 4))
def orthogonal(): return Workload(nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), torch.rand(3, 4))
def convolution(): return Workload(Convolves(), torch.rand(2, 3, 8, 8))
def recurrent(): return Workload(nn.LSTM(4, 4), torch.rand(3, 2, 4))
def padded(): return Workload(Pads(), torch.rand(2, 4, 8))
def attention(): return Workload(Attends(), torch.rand(1, 2, 16, 64, dtype=torch.bfloat16))
"""


@pytest.fixture
def notes(tmp_path):
    """Predicts a pass of a factory, inference unless told otherwise, and gives what the reader is told."""
    space = f"vramscope_test_{abs(hash(tmp_path))}"
    path = tmp_path / "models.py"
    path.write_text(MODELS.replace("{space}", space), encoding="utf-8")

    def predict(factory: str, gpu: str = "t4-16gb", name: str = "inference", **options) -> str:
        chosen = WorkloadOptions(steps=1, **options)
        recording = predict_passes(f"{path}:{factory}", chosen, find_gpu(gpu), (name,))[name]
        return " ".join(recording.notes)

    return predict


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("item", "a value read from a tensor"),
        ("condition", "a condition not to hold"),
        ("one_hot", "one_hot without num_classes, is a lower bound"),
        ("nonzero", "every element is taken to be nonzero"),
        ("mask", "every element is taken to be nonzero or chosen"),
        ("unique", "no element is taken to occur twice"),
        ("sparse", "no index is taken to occur twice"),
        ("orthogonal", "a condition not to hold"),
        ("checked", "all elements hold (.all())"),
        ("even", "elements are taken to be spread evenly"),
        ("custom", "::scale: what its kernel takes beside its results counts as 0: a lower bound"),
        ("custom_of_ones", "::scale: what its kernel takes beside its results"),  # it has no kernel that could run
        # 3 channels of 3 x 3 at 8 x 8 places of 2 images, float32: 13,824 bytes
        ("convolution", "would take 13.5 KiB"),
        ("padded", "sequences are taken not to be packed, the most there can be"),
        ("recurrent", "recurrent layers for backward beside their outputs counts as 0: a lower bound"),
    ],
)
def test_what_is_assumed_or_left_out_is_said(notes, factory, said):
    assert said in notes(factory)


def test_nothing_is_said_where_only_numbers_are_computed(notes):
    assert notes("numbers") == ""


@pytest.mark.parametrize(("optimizer", "is_less"), [("LBFGS", True), ("SGD", False)])
def test_an_optimizer_that_looks_at_the_loss_is_a_lower_bound(notes, optimizer, is_less):
    said = notes("linear", name="training", optimizer=optimizer)
    assert ("LBFGS: its loss is taken not to change" in said) == is_less


def test_a_mean_of_alignments_of_listed_lengths_runs_without_data(notes):
    assert notes("alignments", name="training")


@pytest.mark.parametrize("factory", ["item", "condition"])
def test_only_an_integer_may_be_a_size(notes, factory):
    assert "integer read from a tensor" not in notes(factory)


@pytest.mark.parametrize(("factory", "is_said"), [("boxes", True), ("one_hot", False), ("nonzero", False)])
def test_substitutes_that_pull_both_ways_make_the_total_doubtful(notes, factory, is_said):
    assert ("may be far too high or far too low" in notes(factory)) == is_said


@pytest.mark.parametrize(("gpu", "times"), [("h100-80gb", 1), ("a100-80gb", 0)])
def test_attention_by_cudnn_is_said_once_and_only_where_cudnn_computes_it(notes, gpu, times):
    assert notes("attention", gpu).count("workspaces of cuDNN attention count as 0: a lower bound") == times


@pytest.mark.parametrize(
    ("factory", "operator"),
    [
        ("unknown", ".unknown.default has no fake form"),
        ("numpy", ".numpy()"),
        ("solved", "aten.linalg_lstsq.default makes something"),
    ],
)
def test_what_does_not_run_without_data_names_operator_and_line(notes, factory, operator):
    with pytest.raises(WorkloadError, match=r"does not run without data.*models\.py:\d+.*vramscope compare") as caught:
        notes(factory)
    assert operator in str(caught.value)


@pytest.mark.parametrize(("factory", "remedy"), [("unknown", "register_fake"), ("solved", "torch has no fake form")])
def test_only_who_wrote_an_operator_is_told_to_give_it_a_fake(notes, factory, remedy):
    with pytest.raises(WorkloadError) as caught:
        notes(factory)
    assert [words in str(caught.value) for words in ("register_fake", remedy)] == [remedy == "register_fake", True]


@pytest.mark.parametrize("name", ["inference", "training"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch: flex_attention is not compiled, CSR is in beta
@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("flexible", "flex_attention: predict with another attention"),
        ("compressed", "sparse tensors other than of torch.sparse_coo_tensor: predict with one of these"),
        ("jagged", "nested tensors of jagged layout: predict with padded ones"),
    ],
)
def test_what_predictions_do_not_know_is_named_with_what_to_do(notes, factory, said, name):
    with pytest.raises(WorkloadError, match=r"^this model \(.*models\.py:\d+\) cannot be predicted") as caught:
        notes(factory, name=name)
    assert said in str(caught.value)


@pytest.mark.parametrize(("factory", "error"), [("chosen", "IndexError"), ("insists", "ValueError: no 1")])
def test_a_failure_after_a_value_was_taken_for_data_says_so_first(notes, factory, error):
    """The third of two numbers is asked for, where data would ask for the second; and a factory refuses."""
    with pytest.raises(WorkloadError, match=rf"^this was predicted without data.*a value read from a tensor.*{error}"):
        notes(factory)
