from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vramscope.workloads.losses import cross_entropy
from vramscope.workloads.models import BUILT_INS
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes
from vramscope.workloads.models.lstm import LstmLanguageModel, LstmSizes
from vramscope.workloads.models.mlp import Mlp
from vramscope.workloads.models.resnet18 import ResNet18
from vramscope.workloads.models.vit_b16 import VisionTransformer, VitSizes

TINY_GPT2 = Gpt2Sizes(vocabulary=50, context=16, width=8, layers=2, heads=2)
TINY_VIT = VitSizes(image=32, patch=8, width=8, layers=2, heads=2, mlp=16, classes=10)


def conv(before: int, after: int, size: int) -> int:
    return before * after * size * size


def linear(before: int, after: int) -> int:
    return before * after + after


def norm(width: int) -> int:
    return 2 * width


def stage(before: int, after: int) -> int:
    """Two basic blocks; where the channels change, the shortcut of the first is a 1x1 convolution with its norm."""
    first = conv(before, after, 3) + conv(after, after, 3) + 2 * norm(after)
    shortcut = 0 if before == after else conv(before, after, 1) + norm(after)
    return first + shortcut + 2 * conv(after, after, 3) + 2 * norm(after)


# A transformer block of width w: queries, keys, values and output, an MLP of 4w, two norms.
BLOCK_768 = linear(768, 3 * 768) + linear(768, 768) + linear(768, 3072) + linear(3072, 768) + 2 * norm(768)
PARAMETERS = {
    "mlp": linear(784, 512) + linear(512, 256) + linear(256, 10),
    "resnet18": conv(3, 64, 7)
    + norm(64)
    + stage(64, 64)
    + stage(64, 128)
    + stage(128, 256)
    + stage(256, 512)
    + linear(512, 1000),
    # 14 * 14 patches of 16x16 and the class token
    "vit_b16": conv(3, 768, 16) + 768 + 768 + (14 * 14 + 1) * 768 + 12 * BLOCK_768 + norm(768) + linear(768, 1000),
    # tokens and positions, and no weights of the output layer's own
    "gpt2": 50257 * 768 + 1024 * 768 + 12 * BLOCK_768 + norm(768),
    # per layer four gates of 650 from input and hidden state, with two biases each
    "lstm": 10_000 * 650 + 2 * (4 * (650 * 650 + 650 * 650) + 2 * 4 * 650) + linear(650, 10_000),
}


@pytest.mark.parametrize("name", sorted(BUILT_INS))
def test_parameter_count_follows_from_the_paper(name: str) -> None:
    with torch.device("meta"):
        model = BUILT_INS[name].build(False)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("vit_b16", 86_567_656), ("gpt2", 124_439_808)])
def test_parameter_count_is_the_published_one(name: str, count: int) -> None:
    assert PARAMETERS[name] == count


def test_gpt2_ties_output_layer_and_token_embedding() -> None:
    model = Gpt2(TINY_GPT2)
    assert model.head.weight is model.token_embedding.weight
    assert model.head.weight.device.type == "cpu"


def test_gpt2_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    model = Gpt2(TINY_GPT2).eval()
    tokens = torch.randint(50, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (tokens[0, 5] + 1) % 50
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_gpt2_scales_what_ends_a_residual_branch() -> None:
    torch.manual_seed(0)
    model = Gpt2(Gpt2Sizes(vocabulary=50, context=16, width=128, layers=8, heads=2))
    # 16,384 draws: the sample's deviation is within 0.02 / sqrt(2 * 16384) = 0.6 % of 0.02, so 5 % is far outside
    assert model.blocks[0].attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    # 8 layers end 16 branches: 0.02 / sqrt(16)
    assert model.blocks[0].attention.out.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert model.blocks[0].mlp[2].weight.std().item() == pytest.approx(0.005, rel=0.05)


@pytest.mark.parametrize(
    ("build", "inputs", "shape"),
    [
        (lambda: Mlp((6, 5, 3)), torch.randn(2, 6), (2, 3)),
        (lambda: ResNet18(classes=10, width=4), torch.randn(2, 3, 64, 64), (2, 10)),
        (lambda: VisionTransformer(TINY_VIT), torch.randn(2, 3, 32, 32), (2, 10)),
        (lambda: Gpt2(TINY_GPT2), torch.randint(50, (2, 16)), (2, 16, 50)),
        (lambda: LstmLanguageModel(LstmSizes(50, 8)), torch.randint(50, (2, 16)), (2, 16, 50)),
    ],
)
def test_shapes(build: Callable[[], nn.Module], inputs: Tensor, shape: tuple[int, ...]) -> None:
    assert tuple(build()(inputs).shape) == shape


def gradients(build: Callable[[bool], nn.Module], inputs: Tensor, classes: int, checkpoint: bool) -> list[Tensor]:
    torch.manual_seed(0)
    model = build(checkpoint)
    outputs = model(inputs)
    cross_entropy(outputs, torch.zeros(outputs.shape[:-1], dtype=torch.int64)).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (lambda checkpoint: Mlp((6, 5, 4, 3), checkpoint), torch.randn(2, 6)),
        (lambda checkpoint: ResNet18(10, 4, checkpoint), torch.randn(2, 3, 64, 64)),
        (lambda checkpoint: VisionTransformer(TINY_VIT, checkpoint), torch.randn(2, 3, 32, 32)),
        (lambda checkpoint: Gpt2(TINY_GPT2, checkpoint), torch.randint(50, (2, 16))),
    ],
)
def test_checkpointing_changes_no_gradient(build: Callable[[bool], nn.Module], inputs: Tensor) -> None:
    plain, checkpointed = (gradients(build, inputs, 10, checkpoint) for checkpoint in (False, True))
    assert len(plain) == len(checkpointed) > 0
    assert all(torch.equal(one, other) for one, other in zip(plain, checkpointed, strict=True))


def test_checkpointing_recomputes_each_block_once_in_backward() -> None:
    model, calls = Mlp((6, 5, 4, 3), checkpoint=True), []
    for block in model.blocks:
        # before, not after: recomputing stops as soon as backward has what it needs
        block.register_forward_pre_hook(lambda *_: calls.append("forward"))
    loss = model(torch.randn(2, 6)).sum()
    assert len(calls) == 2
    loss.backward()
    assert len(calls) == 4


def test_nothing_is_checkpointed_without_a_backward() -> None:
    model = Mlp((6, 5, 3), checkpoint=True)
    with torch.inference_mode():
        assert model(torch.randn(2, 6)).shape == (2, 3)
