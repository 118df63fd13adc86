import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vramscope.errors import UsageError
from vramscope.workloads.inputs import DTYPES, InputSpec, check_names, draw

CPU = torch.device("cpu")
INTEGERS = [name for name, dtype in DTYPES.items() if not (dtype.is_floating_point or dtype.is_complex)]


class Model(nn.Module):
    def forward(self, images: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return images


class Open(nn.Module):
    def forward(self, images: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        return images


def make(text: str, floating: torch.dtype | None = None) -> torch.Tensor:
    return InputSpec.parse(text).make(torch.Generator().manual_seed(0), CPU, floating)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x=float32[8,3,224,224]", InputSpec("x", "float32", (8, 3, 224, 224))),
        (" ids = int64[ 8 , 128 ] < 50257 ", InputSpec("ids", "int64", (8, 128), 50257)),
        ("scale=bfloat16[]", InputSpec("scale", "bfloat16", ())),
    ],
)
def test_parse(text: str, spec: InputSpec) -> None:
    assert InputSpec.parse(text) == spec


@given(
    name=st.from_regex(r"[a-z_]\w*", fullmatch=True).filter(str.isascii),
    dtype=st.sampled_from(sorted(DTYPES)),
    shape=st.lists(st.integers(1, 9), max_size=4),
    bound=st.integers(1, 127),
)
def test_text_and_spec_are_the_same_thing(name: str, dtype: str, shape: list[int], bound: int) -> None:
    bounded = dtype in INTEGERS and dtype != "bool"
    spec = InputSpec(name, dtype, tuple(shape), bound if bounded else None)
    assert InputSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "is not understood: write NAME=DTYPE[SHAPE]"),
        ("x=float32", "is not understood"),
        ("=float32[8]", "is not understood"),
        ("x=float32[8]<", "is not understood"),
        ("x=float32[8]<-3", "is not understood"),
        ("x=float32[8,,3]", "must be whole numbers"),
        ("x=float32[8,3.5]", "must be whole numbers"),
        ("x=float32[8,-1]", "must be whole numbers"),
        ("x=float32[8,0]", "every size must be at least 1"),
        ("x=floot32[8]", "did you mean 'float32'?"),
        ("x=quaternion[8]", "known are float32"),
        ("x=float32[8]<10", "an upper bound (<10) is for integers"),
        ("x=bool[8]<2", "an upper bound (<2) is for integers"),
        ("x=int8[8]<0", "is not between 1 and 127"),
        ("x=int8[8]<128", "is not between 1 and 127"),
    ],
)
def test_bad_text_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        InputSpec.parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_dtype_can_be_made(name: str) -> None:
    tensor = make(f"x={name}[3,5]")
    assert (tensor.dtype, tuple(tensor.shape)) == (DTYPES[name], (3, 5))


def test_integers_stay_below_two_unless_a_bound_is_given() -> None:
    # 1000 draws miss one of two values with probability 2 * 2**-1000
    assert set(make("x=int64[1000]").tolist()) == {0, 1}
    assert set(make("x=int64[1000]<3").tolist()) == {0, 1, 2}


def test_the_asked_dtype_replaces_floating_ones_alone() -> None:
    assert make("x=float32[3]", torch.bfloat16).dtype == torch.bfloat16
    assert make("x=float64[3]", torch.bfloat16).dtype == torch.bfloat16
    assert make("x=int64[3]", torch.bfloat16).dtype == torch.int64
    assert make("x=complex64[3]", torch.bfloat16).dtype == torch.complex64


def test_a_seed_draws_the_same_numbers_whatever_the_global_generator_does() -> None:
    specs = [InputSpec.parse("x=float32[100]"), InputSpec.parse("y=int64[100]<1000")]
    torch.manual_seed(1)
    first, again, other = draw(specs, 0, CPU), draw(specs, 0, CPU), draw(specs, 1, CPU)
    assert all(torch.equal(first[name], again[name]) for name in ("x", "y"))
    assert not any(torch.equal(first[name], other[name]) for name in ("x", "y"))


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draw([InputSpec.parse("x=float32[100]")], 0, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("model", "texts", "words"),
    [
        (Model(), ["image=float32[1]"], "Model.forward takes no input named 'image'; did you mean 'images'?"),
        (Model(), ["images=float32[1]", "zebra=float32[1]"], "it takes images, mask"),
        (Model(), ["images=float32[1]", "images=float32[2]"], "'images' is given twice"),
        (Model(), ["mask=float32[1]"], "Model.forward also needs images"),
        (Model(), [], "also needs images"),
        (Open(), ["imagess=float32[1]"], "did you mean 'images'?"),
    ],
)
def test_names_must_be_those_of_forward(model: nn.Module, texts: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_names(model, [InputSpec.parse(text) for text in texts])
    assert words in str(caught.value)


def test_good_names_pass() -> None:
    check_names(Model(), [InputSpec.parse("images=float32[1]")])
    check_names(Open(), [InputSpec.parse("images=float32[1]"), InputSpec.parse("other=float32[1]")])
