"""Every rule at three sizes, worked out by hand from the source that the rule names."""

import pytest
import torch

from vramscope.predict.attention import Attention, AttentionBackend, attention_backend
from vramscope.predict.attention_kernels import (
    efficient_backward_scratch,
    flash_backward_scratch,
    flash_forward_scratch,
    flash_splits,
)
from vramscope.predict.cuda_rules import index_put_scratch
from vramscope.predict.embedding import partial_sums, sums_in_place
from vramscope.predict.gpus import find_gpu
from vramscope.predict.limits import window_matrix_bytes
from vramscope.predict.norms import group_norm_backward_scratch, group_norm_scratch, layer_norm_backward_scratch
from vramscope.predict.reductions import Reduction, reduction_scratch
from vramscope.recorders.torch_version import TORCH


@pytest.mark.parametrize(
    ("indices", "expected"),
    # five blocks of 8 bytes for each index, one byte for the sort
    [(1, (8, 8, 8, 8, 8, 1)), (100, (800, 800, 800, 800, 800, 1)), (7000, (56000, 56000, 56000, 56000, 56000, 1))],
)
def test_index_put_sorts(indices, expected):
    assert index_put_scratch(indices) == expected


@pytest.mark.parametrize(
    ("gpu", "indices", "weights", "expected"),
    # A100: 432 rows, T4: 160; and a sum for every ten indices and every row, against four times the rows
    [
        ("a100-80gb", 20_000, 431, True),
        ("a100-80gb", 20_000, 432, False),
        ("t4-16gb", 20_000, 159, True),
        ("t4-16gb", 20_000, 160, False),
        ("a100-80gb", 4000, 133, True),
        ("a100-80gb", 4000, 134, False),
    ],
)
def test_few_rows_are_summed_in_place(gpu, indices, weights, expected):
    assert sums_in_place(indices, weights, find_gpu(gpu)) is expected


@pytest.mark.parametrize(
    ("indices", "weights", "expected"),
    # a sum for every ten rows, and one more for each weight that can occur
    [(4000, 100, 500), (4000, 100_000, 4400), (20_000, 500, 2500)],
)
def test_embedding_gradients_are_summed_in_parts(indices, weights, expected):
    assert partial_sums(indices, weights) == expected


@pytest.mark.parametrize(
    ("rows", "width", "expected"),
    [
        # 65,536 rows are not enough
        (65_536, 96, ()),
        # 65,568 / 32 = 2049 blocks, less than 32,768 / (96 / 32): partial sums [2049, 96] in float32, twice
        (65_568, 96, (786_816, 786_816)),
        # 1,000,000 / 32 = 31,250 blocks would be more than 32,768 / 4 = 8192
        (1_000_000, 128, (4_194_304, 4_194_304)),
        # 2048 / 32 = 64 blocks of columns are no fewer than half of 108 multiprocessors
        (1_000_000, 2048, ()),
    ],
)
def test_layer_norm_backward(rows, width, expected):
    assert layer_norm_backward_scratch(rows, width, 4, find_gpu("a100-80gb")) == expected


@pytest.mark.parametrize(
    ("shape", "affine", "dtype", "expected"),
    [
        # 3 images of 8 channels: a factor and an addend for each, 3 * 8 * 4
        ((3, 8, 25, 4), True, torch.float32, (96, 96)),
        # 16 bits: the float32 statistics of 2 * 5 groups before them, then 2 * 10 channels
        ((2, 10, 9, 5), True, torch.bfloat16, (40, 40, 80, 80)),
        # one place a channel, or neither weight nor bias: nothing is folded
        ((7, 6, 1, 3), True, torch.float32, ()),
        ((7, 6, 4, 3), False, torch.bfloat16, (84, 84)),
        # float64 is added up in float64
        ((3, 8, 25, 4), True, torch.float64, (192, 192)),
    ],
)
def test_group_norm(shape, affine, dtype, expected):
    assert group_norm_scratch(shape, affine, dtype) == expected


@pytest.mark.parametrize(
    ("shape", "of_input", "weighted", "expected"),
    [
        # 3 * 8 channels twice, 3 * 4 groups twice, 3 * 8 channels with their weight
        ((3, 8, 25, 4), True, True, (96, 96, 48, 48, 96)),
        # no weight to fold in: 2 * 10 channels, 2 * 5 groups
        ((2, 10, 9, 5), True, False, (80, 80, 40, 40)),
        # one place a channel: 7 * 3 groups, before torch 2.14 after sums of 7 * 6 channels; or the sums alone
        ((7, 6, 1, 3), True, True, (84, 84) if TORCH >= (2, 14) else (168, 168, 84, 84)),
        ((7, 6, 4, 3), False, True, (168, 168)),
    ],
)
def test_group_norm_backward(shape, of_input, weighted, expected):
    assert group_norm_backward_scratch(shape, of_input, weighted, torch.float32) == expected


@pytest.mark.parametrize(
    ("query", "key_heads", "expected"),
    [
        # batch 1, 1 head, length 1 up to 128, head 8 up to 32: 128 * 4 and 128 * 32 * 4
        ((1, 1, 1, 8), 1, (512, 16384)),
        # 2 * 3 heads, length 200 up to 256, head 64: 2*3*256*4 and 2*256*3*64*4
        ((2, 3, 200, 64), 3, (6144, 393216)),
        # 1 * 2 heads, length 128, head 80 up to 96: 2*128*4 and 128*2*96*4; both share a key: 2*128*80*2 for each
        ((1, 2, 128, 80), 1, (1024, 98304, 40960, 40960)),
    ],
)
def test_flash_attention_backward(query, key_heads, expected):
    key = (query[0], key_heads, *query[2:])
    assert flash_backward_scratch(query, key, element_bytes=2) == expected


@pytest.mark.parametrize(
    ("query", "keys", "expected"),
    [
        # an A100 has 108 multiprocessors, 216 places: 173 blocks of 64 queries are four fifths of them
        ((1, 173, 64, 64), 4096, 1),
        # 2 * 2 * 5 blocks; 300 keys are 2 blocks of 256: one part uses 20 of 216 places, two use 40
        ((2, 2, 300, 8), 300, 2),
        ((2, 2, 300, 64), 256, 1),
        # 172 blocks use 80 % of the places, and so do up to 4 parts in as many waves; 6 use 1032 of 5 * 216
        ((1, 172, 64, 64), 4096, 6),
        # 64 blocks; 8 blocks of keys: 64, 128, 192 places of 216, then 256 of 432, ... 512 of 648: three are enough
        ((1, 4, 1024, 64), 2048, 3),
        # heads of 128: blocks of 128 keys; of more than 128: of 64
        ((1, 1, 64, 128), 300, 3),
        ((1, 1, 64, 160), 300, 5),
        # nothing to do
        ((0, 4, 8, 16), 8, 1),
        ((2, 4, 8, 16), 0, 1),
    ],
)
def test_keys_are_divided_where_queries_are_few(query, keys, expected):
    assert flash_splits(find_gpu("a100-80gb"), query, keys) == expected


def test_divided_keys_take_sums_and_results_of_each_part():
    # 2 parts of 2 * 2 * 300 float32 sums, and 32 numbers for each, to which a head of 8 is rounded up
    assert flash_forward_scratch(find_gpu("a100-80gb"), (2, 2, 300, 8), 300) == (9600, 307_200)
    assert flash_forward_scratch(find_gpu("a100-80gb"), (8, 12, 1024, 64), 1024) == ()


TILE = 64 * 64 * 4 + 16
"""Bytes of a tile of 64 queries by 64 columns in float32, and its header."""
WIDE, TALL = 128 * 128 * 4 + 16, 128 * 64 * 4 + 16


@pytest.mark.parametrize(
    ("gpu", "query", "element_bytes", "expected"),
    [
        # one head: 1*1*10 sums, their 8 addends each, nothing to reorder; then the sums and one tile
        ("a100-80gb", (1, 1, 10, 8), 4, ((320,), (40, TILE))),
        # 2 * 3 * 16 sums of 32; then their copy, and a tile for each head
        ("a100-80gb", (2, 3, 16, 32), 4, ((12288, 384), (384, 6 * TILE))),
        # heads of more than 64 in float32: 128 queries a tile since Ampere, 64 before; 2 columns each
        ("a100-80gb", (1, 1, 130, 72), 4, ((37440,), (520, 2 * 2 * TALL))),
        ("t4-16gb", (1, 1, 130, 72), 4, ((37440,), (520, 3 * 2 * TILE))),
        # 16 bits: 5 * 17 sums, which the kernel makes of its own
        ("v100-16gb", (1, 5, 17, 40), 2, ((), (340, 5 * TILE))),
        ("a100-80gb", (1, 1, 130, 128), 2, ((), (520, 2 * WIDE))),
        ("t4-16gb", (1, 1, 130, 128), 2, ((), (520, 2 * 2 * TALL))),
        # a kernel of its own for heads up to 96 where shared memory is small
        ("rtx4090-24gb", (1, 1, 64, 96), 2, ((), (256, 2 * TALL))),
        ("h100-80gb", (1, 1, 64, 96), 2, ((), (256, WIDE))),
        # heads of more than 128: the gradients of key and value too, 256 wide for each of 3 blocks of 64 keys
        ("a100-80gb", (1, 1, 192, 136), 2, ((), (768, 2 * 3 * TALL + 3 * 64 * 2 * 256 * 4))),
        # 300 heads are more than 200: their keys are not shared out
        ("a100-80gb", (1, 300, 192, 136), 2, ((), (230400, 300 * (2 * 3 * TALL + 64 * 2 * 256 * 4)))),
        # before Volta float32 needs no tiles
        ("p100-16gb", (1, 1, 10, 8), 4, ((320,), (40,))),
    ],
)
def test_efficient_attention_backward(gpu, query, element_bytes, expected):
    assert efficient_backward_scratch(find_gpu(gpu), query, query, query[3], element_bytes) == expected


def test_dropout_has_no_kernel_for_narrow_heads():
    query = (1, 1, 64, 96)
    assert efficient_backward_scratch(find_gpu("rtx4090-24gb"), query, query, 96, 2, dropout=True) == ((), (256, WIDE))


@pytest.mark.parametrize(
    ("weight", "result", "expected"),
    [
        # 64 channels of 3x3 at 56x56 places of 8 images, float32
        ((64, 64, 3, 3), (8, 64, 56, 56), 64 * 9 * 56 * 56 * 8 * 4),
        # a 1x1 kernel: the input itself
        ((10, 5, 1, 1), (2, 10, 7, 7), 5 * 49 * 2 * 4),
        # groups of one channel, one dimension
        ((6, 1, 4), (3, 6, 20), 4 * 20 * 3 * 4),
    ],
)
def test_the_matrix_of_a_convolutions_windows(weight, result, expected):
    assert window_matrix_bytes(weight, result, 4) == expected


HALF, BRAIN, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64
CUDNN, FLASH, EFFICIENT, MATH = AttentionBackend


@pytest.mark.parametrize(
    ("gpu", "attention", "expected"),
    [
        ("a100-80gb", Attention(BRAIN, 64), FLASH),
        ("a100-80gb", Attention(BRAIN, 64, has_mask=True), EFFICIENT),
        ("a100-80gb", Attention(SINGLE, 64), EFFICIENT),
        ("a100-80gb", Attention(DOUBLE, 64), MATH),
        # wider than flash's 256; 264 is a multiple of 8, 257 is not
        ("a100-80gb", Attention(HALF, 264), EFFICIENT),
        ("a100-80gb", Attention(HALF, 257), MATH),
        # 128 bits are 4 elements of float32
        ("a100-80gb", Attention(SINGLE, 20), EFFICIENT),
        ("a100-80gb", Attention(SINGLE, 18), MATH),
        ("a100-80gb", Attention(SINGLE, 64, heads=(8, 2)), MATH),
        # a causal mask that is not square is no job for flash
        ("a100-80gb", Attention(BRAIN, 64, lengths=(1, 128), causal=True), EFFICIENT),
        ("v100-32gb", Attention(HALF, 64), EFFICIENT),
        ("v100-32gb", Attention(BRAIN, 64), MATH),
        ("v100-32gb", Attention(SINGLE, 18), EFFICIENT),
        # Hopper prefers cuDNN: heads up to 128, masks too, dropout in sixteenths
        ("h100-80gb", Attention(BRAIN, 64), CUDNN),
        ("h100-80gb", Attention(BRAIN, 64, has_mask=True), CUDNN),
        ("h100-80gb", Attention(BRAIN, 136), FLASH),
        ("h100-80gb", Attention(BRAIN, 64, dropout=0.1), FLASH),
        ("h100-80gb", Attention(BRAIN, 64, dropout=0.125), CUDNN),
        ("h100-80gb", Attention(SINGLE, 64), EFFICIENT),
        # the Ada generation trains heads up to 192, and beyond 224 without dropout
        ("rtx4090-24gb", Attention(BRAIN, 200, trains=True), EFFICIENT),
        ("rtx4090-24gb", Attention(BRAIN, 200), FLASH),
        ("rtx4090-24gb", Attention(BRAIN, 240, trains=True), FLASH),
        ("rtx4090-24gb", Attention(BRAIN, 240, trains=True, dropout=0.1), EFFICIENT),
    ],
)
def test_attention_backend(gpu, attention, expected):
    assert attention_backend(find_gpu(gpu), attention) is expected


@pytest.mark.parametrize(("name", "expected"), [("t4-16gb", 8519680), ("h100-80gb", 2**25), ("rtx5090-32gb", 2**25)])
def test_cublas_workspace(name, expected):
    # 2 * 4096 KiB + 8 * 16 KiB = 8,519,680 bytes before Hopper, 32 MiB from there on
    assert find_gpu(name).cublas_workspace_bytes == expected


@pytest.mark.parametrize(
    ("outputs", "inputs", "fastest", "expected"),
    [
        # 768 outputs, 2000 inputs each, four outputs a load: blocks of 32 x 4 threads, 500 values each, so that
        # 500 / 16 = 32 blocks share a result: 4 * 768 * 32 * 32 * 4 bytes; 768 / 4 / 32 = 6 semaphores
        (768, 2000, False, (12582912, 24)),
        # 40 outputs: 10 loads, the power of two below is 8; blocks of 8 x 16 threads, 4096 / 16 = 256 values,
        # 16 blocks: 4 * 40 * 16 * 8 * 4 bytes; ceil(10 / 8) = 2 semaphores
        (40, 4096, False, (81920, 8)),
        # 600 inputs: 150 values for each of 4 rows of threads, not worth another block
        (1024, 600, False, ()),
        # one result of the last dimension: 512 threads across, 2048 values each, 128 blocks: 4 * 128 bytes
        (1, 2**20, True, (512, 4)),
    ],
)
def test_partial_results_of_a_reduction(outputs, inputs, fastest, expected):
    assert reduction_scratch(Reduction(outputs, inputs, fastest), find_gpu("a100-80gb")) == expected
