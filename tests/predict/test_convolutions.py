"""Convolutions and batch norms of cuDNN: layouts, and copies into them, by requested bytes on fake tensors.

Sizes are of two images of 3 channels and 8 by 6 places, convolved to 8 channels by windows of 3 by 3 with a border of
one, in float32; or of two lines of 3 channels and 8 places, convolved to 4 channels by windows of 3 with a border.
"""

import pytest
import torch
from tests.predict.running import born, events
from torch import nn

IMAGES = 2 * 3 * 8 * 6 * 4
RESULT = 2 * 8 * 8 * 6 * 4
WEIGHT, BIAS = 8 * 3 * 9 * 4, 8 * 4
LINES, OF_LINES = 2 * 3 * 8 * 4, 2 * 4 * 8 * 4
LINE_WEIGHT, LINE_BIAS = 4 * 3 * 3 * 4, 4 * 4
TOGETHER = torch.channels_last


def images(layout: torch.memory_format = torch.contiguous_format, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(2, 3, 8, 6, dtype=dtype).to(memory_format=layout).requires_grad_()


def convolution(layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    return nn.Conv2d(3, 8, 3, padding=1).to(memory_format=layout)


def gradients(layer, given):
    """What backward alone makes, of a gradient in order."""

    def make():
        first, second = layer(), given()
        result = first(second)
        wanted = [tensor for tensor in (second, *first.parameters()) if tensor.requires_grad]
        return result, wanted, torch.empty_like(result, memory_format=torch.contiguous_format)

    return born(make, lambda made: torch.autograd.grad(*made))


def test_in_order_nothing_is_copied():
    assert born(lambda: (convolution(), images()), lambda made: made[0](made[1])) == [RESULT]
    assert gradients(convolution, images) == [IMAGES, WEIGHT, BIAS]


@pytest.mark.parametrize(
    ("of_layer", "of_images", "copies"),
    # where channels lie together in one of both, the other is copied: the images before the result, the weight after it
    [
        (torch.contiguous_format, torch.contiguous_format, []),
        (TOGETHER, TOGETHER, []),
        (torch.contiguous_format, TOGETHER, [WEIGHT]),
        (TOGETHER, torch.contiguous_format, [IMAGES]),
    ],
)
def test_channels_lie_together_in_both_or_in_neither(of_layer, of_images, copies):
    def run(made):
        result = made[0](made[1])
        assert result.is_contiguous(memory_format=TOGETHER) == (TOGETHER in (of_layer, of_images))

    made = born(lambda: (convolution(of_layer), images(of_images)), run)
    assert sorted(made) == sorted([RESULT, *copies])
    assert made.index(RESULT) == (IMAGES in copies)


def test_a_gradient_in_order_is_copied_for_images_whose_channels_lie_together():
    # the gradient's copy; the images' gradient and the weight's copy; the gradients of weight and bias
    expected = [RESULT, IMAGES, WEIGHT, WEIGHT, BIAS]
    assert gradients(convolution, lambda: images(TOGETHER)) == expected


def test_with_weights_together_images_in_order_are_copied_again():
    # the images' copy, the gradient's; the gradients of images, weight and bias
    assert gradients(lambda: convolution(TOGETHER), images) == [IMAGES, RESULT, IMAGES, WEIGHT, BIAS]


def test_frozen_weights_need_no_copy_of_the_images():
    def layer():
        return convolution(TOGETHER).requires_grad_(False)

    # no gradient but the images', for which the gradient given is copied into the weight's layout
    assert gradients(layer, images) == [IMAGES, RESULT]


def test_a_transposed_convolution_is_one_backward():
    def layer():
        return nn.ConvTranspose2d(3, 8, 2, 2)

    result, weight = 4 * RESULT, 3 * 8 * 4 * 4
    assert born(lambda: (layer(), images(TOGETHER)), lambda made: made[0](made[1])) == [result, weight]
    assert gradients(layer, lambda: images(TOGETHER)) == [result, IMAGES, weight, weight, BIAS]


def test_each_channel_by_itself_is_convolved_in_order_and_its_weight_comes_first():
    def layer():
        return nn.Conv2d(3, 3, 3, padding=1, groups=3)

    weight, bias = 3 * 9 * 4, 3 * 4
    assert gradients(layer, images) == [weight, IMAGES, bias]
    # cuDNN's convolution, where channels lie together: the gradient's copy, and no weight's, as it has one channel
    assert gradients(layer, lambda: images(TOGETHER)) == [IMAGES, IMAGES, weight, bias]


def lines(across: bool):
    def make():
        layer = nn.Conv1d(3, 4, 3, padding=1)
        return layer, torch.empty(2, 8, 3, requires_grad=True) if across else torch.empty(2, 3, 8, requires_grad=True)

    def run(made):
        layer, given = made
        result = layer(given.transpose(1, 2) if across else given)
        assert result.is_contiguous()
        result.backward(torch.empty_like(result))

    return events(make, run)


def test_lines_are_always_convolved_in_order():
    assert [size for size in lines(across=False) if size > 0] == [
        *(OF_LINES, OF_LINES),
        *(LINES, LINE_WEIGHT, LINE_BIAS),
    ]
    # a copy for the way there, which goes with it, and one for the way back, which stays until the bias's gradient
    assert lines(across=True)[:9] == [
        *(LINES, OF_LINES, -LINES, OF_LINES),
        *(LINES, LINES, LINE_WEIGHT, LINE_BIAS, -LINES),
    ]


def test_float64_is_convolved_in_order():
    def make():
        return convolution().double(), images(TOGETHER, torch.float64)

    assert born(make, lambda made: made[0](made[1])) == [2 * IMAGES, 2 * RESULT]


def test_without_cudnn_nothing_is_copied_for_it():
    with torch.backends.cudnn.flags(enabled=False):
        assert gradients(convolution, lambda: images(TOGETHER)) == [IMAGES, WEIGHT, BIAS]


STATISTICS = 3 * 4


def norm(across: bool, *, evaluates: bool = False, frozen: bool = False):
    """Forward and backward of a batch norm of images, of channels that lie together if ``across``."""

    def make():
        layer = nn.BatchNorm2d(3).train(not evaluates).requires_grad_(not frozen)
        return layer, images(TOGETHER if across else torch.contiguous_format)

    def run(made):
        result = made[0](made[1])
        result.backward(torch.empty_like(result, memory_format=torch.contiguous_format))

    return [size for size in events(make, run) if size > 0]


def test_batch_norm_keeps_a_copy_of_what_lies_neither_way():
    def make():
        return nn.BatchNorm1d(3), torch.empty(2, 8, 3, requires_grad=True)

    def run(made):
        result = made[0](made[1].transpose(1, 2))
        torch.autograd.grad(result, [made[1], *made[0].parameters()], torch.empty_like(result))

    # the copy, the result, two statistics, the gradient given; the gradients of input, weight and bias
    numbers = [STATISTICS, STATISTICS]
    made = events(make, run)
    assert [size for size in made if size > 0] == [LINES, LINES, *numbers, LINES, LINES, *numbers]
    assert min(place for place, size in enumerate(made) if size < 0) == 8  # the copy lasts until all is done


def test_batch_norm_in_training_copies_a_gradient_that_lies_otherwise():
    numbers = [STATISTICS, STATISTICS]
    assert norm(across=False) == [IMAGES, *numbers, IMAGES, IMAGES, *numbers]
    assert norm(across=True) == [IMAGES, *numbers, IMAGES, IMAGES, IMAGES, *numbers]
    # cuDNN makes the gradients of weight and bias though nobody wants them
    assert norm(across=False, frozen=True) == [IMAGES, *numbers, IMAGES, IMAGES, *numbers]


def test_batch_norm_in_evaluation_goes_back_without_cudnn():
    # result, gradient given; one kernel for the three gradients; or, where channels lie together, the inverse
    # deviation, two sums, the gradients of weight and bias, and the images' last; frozen, the deviation alone.
    # The images' gradient comes in order, and is kept as they lie
    numbers = [STATISTICS, STATISTICS]
    assert norm(across=False, evaluates=True) == [IMAGES, IMAGES, IMAGES, *numbers]
    assert norm(across=True, evaluates=True) == [
        *(IMAGES, IMAGES, STATISTICS, *numbers, *numbers),
        *(IMAGES, IMAGES),
    ]
    for across in (False, True):
        assert norm(across, evaluates=True, frozen=True) == [
            *(IMAGES, IMAGES, STATISTICS, IMAGES),
            *((IMAGES,) if across else ()),
        ]


def test_partial_sums_of_a_layer_norm_are_added_up():
    # 70,000 rows of 8 in blocks of 32 rows: two partial sums of 2188 rows, each added up to 8 numbers
    def make():
        return nn.LayerNorm(8), torch.empty(70_000, 8, requires_grad=True)

    def run(made):
        result = made[0](made[1])
        result.backward(torch.empty_like(result))

    block, part, numbers = 70_000 * 8 * 4, 2188 * 8 * 4, 8 * 4
    backward = [size for size in events(make, run) if size > 0][4:]
    assert backward == [block, numbers, numbers, part, part, numbers, numbers]


def test_batch_norm_in_evaluation_gives_a_gradient_in_order():
    def run(made):
        result = made[0](made[1])
        (gradient,) = torch.autograd.grad(result, [made[1]], torch.empty_like(result))
        assert gradient.is_contiguous()

    born(lambda: (nn.BatchNorm2d(3).eval(), images(TOGETHER)), run)


def test_batch_norm_without_a_weight_takes_a_one_where_the_gradient_lies_otherwise():
    def norm(layout):
        def run(made):
            result = made[0](made[1])
            torch.autograd.grad(result, [made[1]], torch.empty_like(result, memory_format=layout))

        made = events(lambda: (nn.BatchNorm2d(3, affine=False), images(TOGETHER)), run)
        return [size for size in made if size > 0][3:]

    # the gradient given, two sums, the one, the images' gradient
    assert norm(torch.contiguous_format) == [IMAGES, STATISTICS, STATISTICS, 4, IMAGES]
    assert norm(TOGETHER) == [IMAGES, STATISTICS, STATISTICS, IMAGES]


def test_batch_norm_whose_channels_lie_together_makes_gradients_that_nobody_wants():
    def run(made):
        result = made[0](made[1])
        torch.autograd.grad(result, [made[1]], torch.empty_like(result))

    def make():
        return nn.BatchNorm2d(3).bfloat16().requires_grad_(False), images(TOGETHER, torch.bfloat16)

    # two sums in float32, the gradients of weight and bias in bfloat16, the images' gradient
    made = [size for size in events(make, run) if size > 0]
    assert made[4:] == [STATISTICS, STATISTICS, 3 * 2, 3 * 2, IMAGES // 2]


def test_a_gradient_of_one_channel_is_copied_though_it_lies_both_ways():
    # the images' copy, the gradient's; the gradients of images, weight and bias
    place = 2 * 8 * 6 * 4
    layer = lambda: nn.Conv2d(3, 1, 1).to(memory_format=TOGETHER)  # noqa: E731
    assert gradients(layer, images) == [IMAGES, place, IMAGES, 3 * 4, 4]


def test_group_norm_copies_images_whose_channels_lie_together():
    made = born(lambda: (nn.GroupNorm(1, 3), images(TOGETHER)), lambda made: made[0](made[1]))
    assert made.count(IMAGES) == 2


def test_a_reflected_border_lies_in_order():
    def run(made):
        assert nn.functional.pad(made, (1, 1, 1, 1), "reflect").is_contiguous()

    born(lambda: images(TOGETHER), run)
