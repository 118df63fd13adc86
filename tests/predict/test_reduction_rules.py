"""What reductions take on CUDA besides their results: copies in another type and partial results."""

import pytest
import torch
from tests.predict.running import GPU, ROWS, born, events, matrix
from torch.nn.utils import clip_grad_norm_

from vramscope.predict.reductions import Reduction, reduction_scratch
from vramscope.recorders.torch_version import TORCH

MANY = 350_000
"""Numbers that several thread blocks share."""


def whole(rows: int, dtype: torch.dtype):
    return lambda: torch.zeros(rows, 10, dtype=dtype)


def shared(accumulator_bytes: int) -> list[int]:
    return list(reduction_scratch(Reduction(1, MANY, True, True, accumulator_bytes), GPU))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32])
def test_whole_numbers_are_summed_as_int64(dtype, rows):
    kept = []
    # the result of 8 bytes, then 8 for each of 10 numbers a row, which go
    assert events(whole(rows, dtype), lambda x: kept.append(x.sum()), GPU) == [8, 80 * rows, -80 * rows]
    assert born(whole(rows, dtype), lambda x: x.sum(-1)) == [8 * rows, 80 * rows]
    assert born(whole(rows, dtype), lambda x: x.prod(-1)) == [8 * rows, 80 * rows]


@pytest.mark.parametrize("rows", ROWS)
def test_numbers_of_16_bits_are_read_as_they_are(rows):
    given = matrix(rows, torch.bfloat16)
    assert born(given, lambda x: x.sum(-1, dtype=torch.float32)) == [4 * rows]
    assert born(given, lambda x: x.sum(-1, dtype=torch.float64)) == [8 * rows, 80 * rows]


def flat(dtype: torch.dtype = torch.float32):
    return lambda: torch.empty(MANY, dtype=dtype)


@pytest.mark.parametrize("reduce", [torch.sum, torch.mean, torch.amax, torch.max, torch.norm, torch.prod])
def test_partial_results_of_numbers(reduce):
    assert born(flat(), reduce) == [4, *shared(4)]
    assert born(flat(torch.float64), reduce) == [8, *shared(8)]


def test_partial_results_of_16_bit_numbers_are_wide():
    assert born(flat(torch.float16), torch.sum) == [2, *shared(4)]


@pytest.mark.parametrize("reduce", [torch.argmax, torch.argmin])
def test_partial_results_of_places_hold_number_and_place(reduce):
    assert born(flat(), reduce) == [8, *shared(16)]


@pytest.mark.parametrize("reduce", [torch.var, torch.std])
def test_partial_results_of_variances(reduce):
    assert born(flat(), reduce) == [4, *shared(16)]
    assert born(flat(torch.float64), reduce) == [8, *shared(32)]


def test_variance_and_mean_together():
    assert born(flat(), torch.var_mean) == [4, 4, *shared(16)]


@pytest.mark.parametrize("reduce", [torch.all, torch.any])
def test_partial_results_of_conditions(reduce):
    assert born(flat(torch.bool), reduce) == [1, *shared(1)]
    assert born(flat(), reduce) == [1, *shared(1 if TORCH >= (2, 12) else 4)]


@pytest.mark.parametrize("rows", ROWS)
def test_logsumexp_has_its_differences_on_the_way(rows):
    # the largest, its size, whether that is infinite; 10 differences a row; the result
    assert born(matrix(rows), lambda x: x.logsumexp(-1)) == [4 * rows, 4 * rows, rows, 40 * rows, 4 * rows]


@pytest.mark.parametrize("rows", ROWS)
def test_logsumexp_gives_all_but_its_result_back(rows):
    kept = []
    assert sum(events(matrix(rows), lambda x: kept.append(x.logsumexp(-1)), GPU)) == 4 * rows


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_logsumexp_of_whole_numbers_is_of_floating_point(dtype):
    kept = []
    found = born(lambda: torch.ones(300, 40, dtype=dtype), lambda x: kept.append(x.logsumexp(1)))
    assert found == [48_000, 1200, 1200, 300, 48_000, 1200]
    assert kept[0].dtype == torch.float32


def test_logsumexp_of_nothing():
    kept = []
    born(lambda: torch.empty(0, 3), lambda x: kept.append(x.logsumexp(0)))
    assert kept[0].shape == (3,)


def test_columns_of_a_transposed_matrix_lie_together():
    """Each is summed by one thread block, as rows are where nothing is transposed."""
    assert born(lambda: torch.empty(512, 4096), lambda x: x.t().sum(0)) == [512 * 4]
    assert born(lambda: torch.empty(512, 4096), lambda x: x.sum(-1)) == [512 * 4]


@pytest.mark.parametrize("large", [1, 65_536, 65_537, 200_000])
def test_gradients_are_clipped_together(large):
    """Fake gradients, too, are put into one operator over lists."""

    def make():
        parameters = [torch.empty(large), torch.empty(3), torch.empty(5, 5)]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        return parameters

    found = born(make, lambda made: clip_grad_norm_(made, 1.0))
    chunks = -(-large // 65_536)
    # one number for each chunk the largest has of each of 3 gradients, and their norms; then those in one tensor
    assert found[:5] == [3 * chunks * 4, 4, 4, 4, 12]
