"""Kernels of CUDA's that copy what does not lie in order: by requested bytes, on fake tensors."""

import pytest
import torch
from tests.predict.running import ROWS, born, events, matrix
from torch.nn import functional


def gradient_of(function):
    """What a sum's backward takes, whose gradient is one number that is repeated."""
    return lambda x: function(x).sum().backward()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax, torch.cumsum, torch.cumprod])
def test_what_lies_across_is_copied(function, rows):
    # 10 numbers of 4 bytes a row: the result, and a copy of the input, which goes first
    block = 40 * rows
    assert born(matrix(rows), lambda x: function(x, 0)) == [block]
    assert events(matrix(rows), lambda x: function(x.t(), 0)) == [block, block, -block, -block]


@pytest.mark.parametrize("rows", ROWS)
def test_the_gradient_of_a_sum_is_copied_for_a_log_softmax(rows):
    # forward: the result, and the sum; backward: the sum's gradient, the input's, and the copy
    block = 40 * rows
    assert born(matrix(rows), gradient_of(lambda x: torch.log_softmax(x, -1))) == [block, 4, 4, block, block]


@pytest.mark.parametrize("rows", ROWS)
def test_a_softmax_goes_back_over_a_product_and_a_copy_of_it(rows):
    # of a result that lies in order and a gradient that does not, the product lies as the gradient
    def make():
        return torch.empty(rows, 10, requires_grad=True), torch.empty(10, rows).t()

    def run(made):
        result = torch.softmax(made[0], -1)
        result.backward(made[1])

    block = 40 * rows
    assert born(make, run) == [block] * 4


def image(requires_grad: bool = True, layout: torch.memory_format = torch.contiguous_format):
    return lambda: torch.empty(2, 3, 8, 6).to(memory_format=layout).requires_grad_(requires_grad)


ACROSS = 2 * 3 * 8 * 6 * 4
"""Bytes of the images above."""


@pytest.mark.parametrize(
    ("function", "result"),
    # in places of 2 by 2; with a border of one on all sides; twice as high and wide; 4 by 3
    [
        (lambda x: functional.avg_pool2d(x, 2), [ACROSS // 4]),
        (lambda x: functional.max_pool2d(x, 2), [ACROSS // 4, ACROSS // 2]),  # with indices of eight bytes
        (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), [2 * 3 * 10 * 8 * 4]),
        (lambda x: functional.interpolate(x, scale_factor=2), [4 * ACROSS]),
    ],
)
def test_images_that_lie_across_are_copied(function, result):
    assert born(image(), function) == result
    assert born(image(), lambda x: function(x.transpose(2, 3).contiguous().transpose(2, 3))) == [
        ACROSS,
        *result,
        ACROSS,
    ]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_are_blended_as_they_lie(mode):
    def run(x):
        functional.interpolate(x.transpose(2, 3), scale_factor=2, mode=mode, align_corners=False)

    assert born(image(), run) == [4 * ACROSS]


def test_images_whose_channels_lie_together_are_pooled_as_they_are():
    made = image(layout=torch.channels_last)
    assert born(made, lambda x: functional.max_pool2d(x, 2)) == [ACROSS // 4, ACROSS // 2]


def test_a_gradient_in_order_is_copied_for_images_whose_channels_lie_together():
    def run(x):
        functional.avg_pool2d(x, 2).backward(torch.empty(2, 3, 4, 3))

    # the result and the gradient that is given; the images' gradient and the copy
    assert born(image(layout=torch.channels_last), run) == [ACROSS // 4, ACROSS // 4, ACROSS, ACROSS // 4]


def test_adaptive_maxima_of_images_whose_channels_lie_together_are_made_in_order_first():
    def run(x):
        functional.adaptive_max_pool2d(x, (4, 3)).backward(torch.empty(2, 3, 4, 3))

    # maxima and indices twice, the images; backward: the gradient that is given, the images' gradient, indices in
    # order, and that gradient in order
    maxima, indices = ACROSS // 4, ACROSS // 2
    found = born(image(layout=torch.channels_last), run)
    assert found == [maxima, indices, maxima, indices, ACROSS, maxima, ACROSS, indices, ACROSS]


def test_of_few_channels_that_lie_together_nearest_neighbours_are_found_in_order():
    def run(x):
        functional.interpolate(x, scale_factor=2)

    assert born(image(False, torch.channels_last), run) == [4 * ACROSS, 4 * ACROSS, ACROSS]
    four = torch.empty(2, 4, 8, 6).to(memory_format=torch.channels_last)
    assert born(lambda: four.clone(), run) == [4 * four.numel() * 4]


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (lambda x: functional.avg_pool2d(x, 2), [ACROSS // 4]),
        (lambda x: functional.max_pool2d(x, 2), [ACROSS // 4, ACROSS // 2]),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), [4 * ACROSS]),
        (lambda x: functional.adaptive_avg_pool2d(x, (4, 3)), [ACROSS // 4]),
    ],
)
def test_the_gradient_of_a_sum_of_images_is_copied(function, result):
    # the sum and its gradient, then the images' gradient and the copy, as large as the result
    assert born(image(), gradient_of(function)) == [*result, 4, 4, ACROSS, result[0]]


@pytest.mark.parametrize("rows", ROWS)
def test_a_root_mean_square_norm_copies_what_lies_across(rows):
    # a copy, the result and the inverse root of each column; backward: the gradient that is given, copies of input and
    # gradient, the input's gradient, and that as the matrix itself lies
    block = 40 * rows

    def run(x):
        functional.rms_norm(x.t(), (rows,)).backward(torch.empty(rows, 10).t())

    assert born(matrix(rows), run) == [block, block, 40, *[block] * 5]


@pytest.mark.parametrize("rows", ROWS)
def test_a_mask_over_tokens_is_copied_and_counted(rows):
    # the result; 8 bytes and one for each element; what CUB scans with: 1,279 bytes for a tile
    def make():
        return torch.empty(rows, 10), torch.ones(rows, 1, dtype=torch.bool), torch.empty(rows, 10)

    def run(made):
        given, mask, source = made
        given.masked_scatter(mask.expand(rows, 10), source)

    elements = 10 * rows
    found = born(make, run)
    assert found[:3] == [4 * elements, 8 * elements, elements]
    assert len(found) == 4


def test_waves_are_copied_before_they_become_real():
    # 5 complex numbers of eight bytes a row give 8 real ones
    def make():
        return torch.empty(4, 5, dtype=torch.complex64)

    assert born(make, torch.fft.irfft) == [4 * 8 * 4, 4 * 5 * 8]


def test_a_window_is_rolled_along_one_side_after_another():
    # each of the two takes a block; both are there at the end
    window = 2 * 3 * 8 * 6 * 4
    assert events(image(False), lambda x: torch.roll(x, (1, 2), (2, 3))) == [window, window, -window, -window]
    assert born(image(False), lambda x: torch.roll(x, 1, 2)) == [window]
