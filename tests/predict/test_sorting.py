"""What sorts and selections take on CUDA, and CUB's temporary storage."""

import pytest
import torch
from tests.predict.running import born

from vramscope.predict.cub import radix_sort_bytes, scan_bytes, unique_bytes
from vramscope.predict.gpus import find_gpu
from vramscope.recorders.torch_version import TORCH

A100, H100, T4, RTX = (find_gpu(name) for name in ("a100-80gb", "h100-80gb", "t4-16gb", "rtx4090-24gb"))


@pytest.mark.parametrize(
    ("gpu", "elements", "key_bytes", "bits", "expected"),
    # what torch 2.11 to 2.14 ask for
    [
        (A100, 2304, 8, 64, 1),
        (A100, 4097, 4, 32, 60_415),
        (A100, 4097, 8, 64, 84_991),
        (A100, 300_000, 8, 64, 4_897_791),
        (A100, 1_100_000, 4, 32, 13_576_447),
        (A100, 350_000, 8, 7, 96_767),
        (A100, 20_000, 8, 17, 332_799),
        (T4, 500_000, 8, 20, 8_188_927),
        (RTX, 500_000, 8, 20, 8_140_799),
        (H100, 500_000, 8, 20, 8_118_271),
    ],
)
def test_radix_sort(gpu, elements, key_bytes, bits, expected):
    assert radix_sort_bytes(elements, key_bytes, bits, gpu) == expected


@pytest.mark.parametrize(
    ("gpu", "elements", "sort", "select"),
    [(A100, 100_000, 823_295, 1791), (T4, 100_000, 816_127, 3327), (H100, 6000, 55_807, 1279), (RTX, 4864, 1, 1279)],
)
def test_narrow_keys_with_narrow_indices(gpu, elements, sort, select):
    assert radix_sort_bytes(elements, 4, 22, gpu, index_bytes=4) == sort
    assert unique_bytes(elements, gpu, 4) == select


@pytest.mark.parametrize(("elements", "expected"), [(1, 1279), (15_000, 1535), (30_000, 1791), (500_000, 9983)])
def test_scan(elements, expected):
    assert scan_bytes(elements) == expected


@pytest.mark.parametrize(
    ("dtype", "elements", "expected"),
    [
        (torch.float32, 7, [28, 1023]),
        (torch.int64, 7, [56, 1279]),
        (torch.int32, 500_000, [4_000_000, 4_000_000, 9983]),  # summed as int64
        (torch.float32, 1_500_000, [6_000_000, 7167]),  # 391 tiles of 3840, 32 more, 16 bytes each
    ],
)
def test_running_sums_of_one_row(dtype, elements, expected):
    assert born(lambda: torch.zeros(elements, dtype=dtype), lambda x: x.cumsum(0)) == expected
    assert born(lambda: torch.zeros(2, elements, dtype=dtype), lambda x: x.cumsum(-1))[0] == 2 * expected[0]


@pytest.mark.skipif(TORCH < (2, 13), reason="other tiles before torch 2.13")
@pytest.mark.parametrize(
    ("gpu", "elements", "expected"),
    [(A100, 20_000, 1279), (A100, 500_000, 7167), (H100, 500_000, 2815), (T4, 500_000, 26_111), (RTX, 20_000, 2047)],
)
def test_selecting_the_first_of_equals(gpu, elements, expected):
    assert unique_bytes(elements, gpu) == expected


@pytest.mark.parametrize("rows", [1, 4, 300])
@pytest.mark.parametrize("length", [7, 4096])
def test_short_rows_are_sorted_in_place(length, rows):
    # values and indices, and the places of one row
    expected = [4 * rows * length, 8 * rows * length, 8 * length]
    assert born(lambda: torch.empty(rows, length), lambda x: x.sort(-1)) == expected
    assert born(lambda: torch.empty(length, rows), lambda x: x.sort(dim=0, stable=True)) == expected


@pytest.mark.parametrize("length", [4097, 50_257])
def test_one_long_row(length):
    expected = [4 * length, 8 * length, 8 * length, radix_sort_bytes(length, 4, 32, A100)]
    assert born(lambda: torch.empty(length), torch.sort) == expected


@pytest.mark.parametrize("rows", [2, 3])
def test_few_rows_of_a_million(rows):
    length = 1_000_000
    scratch = radix_sort_bytes(length, 4, 32, A100)
    expected = [4 * rows * length, 8 * rows * length, 8 * length, *[scratch] * rows]
    assert born(lambda: torch.empty(rows, length), torch.sort) == expected


def test_some_rows_are_sorted_together_then_by_row():
    # 8 rows of the vocabulary of GPT-2: what torch 2.11 to 2.14 ask for
    count = 8 * 50_257
    expected = [4 * count, 8 * count, 8 * count, 8 * count, 4 * count, 4_967_935, 110_079]
    assert born(lambda: torch.empty(8, 50_257), torch.sort) == expected


def test_many_rows_are_sorted_as_segments():
    count = 200 * 5000
    expected = [4 * count, 8 * count, 8 * count, 12 * count + 255]
    assert born(lambda: torch.empty(200, 5000), torch.sort) == expected


def test_columns_are_sorted_in_copies():
    count = 5000 * 200
    whole = [4 * count, 8 * count]
    # values and indices; numbers, values and indices once more with columns in rows; places, and CUB's
    expected = [*whole, 4 * count, *whole, 8 * count, 12 * count + 255]
    assert born(lambda: torch.empty(5000, 200), lambda x: x.sort(0)) == expected


def test_the_largest_of_short_rows_take_nothing_besides():
    assert born(lambda: torch.empty(64, 4096), lambda x: x.topk(5)) == [64 * 5 * 4, 64 * 5 * 8]


def test_digits_of_float64_are_counted_in_more():
    # 4 rows of 98 blocks of 1024 numbers
    counting = [4 * 8, 4 * 8, 4 * 16, 4 * 98 * 512, 4 * 1024, 4 * 98 * 4, 4 * 98 * 4, 1279, 1279]
    given = torch.float64
    assert born(lambda: torch.empty(4, 100_000, dtype=given), lambda x: x.topk(2)) == [4 * 2 * 8, 4 * 2 * 8, *counting]


@pytest.mark.parametrize("k", [1, 50])
def test_the_largest_of_long_rows_are_found_by_counting_digits(k):
    # 50 thread blocks of 1024 numbers for each of 8 rows; 256 digits in 2 bytes each, their sums in 4
    counting = [8 * 4, 8 * 8, 8 * 8, 8 * 50 * 512, 8 * 1024, 8 * 50 * 4, 8 * 50 * 4, 1279, 1279]
    assert born(lambda: torch.empty(8, 50_257), lambda x: x.topk(k)) == [8 * k * 4, 8 * k * 8, *counting]
