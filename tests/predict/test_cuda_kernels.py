"""What CUDA makes of operators that are made of others: by requested bytes, on fake tensors."""

from contextlib import nullcontext, suppress

import pytest
import torch
from tests.predict.running import GPU, ROWS, SEEDS, WORKSPACE, born, events, matrix, most
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vramscope.predict.autocast import CastCache, autocast_kernels
from vramscope.predict.cub import radix_sort_bytes, scan_bytes, unique_bytes
from vramscope.predict.cuda_kernels import cuda_kernels
from vramscope.predict.cuda_rules import cuda_rules
from vramscope.predict.gpus import find_gpu
from vramscope.recorders.torch_version import TORCH
from vramscope.recorders.virtual.recorder import VirtualRecorder


@pytest.mark.parametrize("rows", ROWS)
def test_dropout_makes_its_mask_and_its_result(rows):
    # a byte, then four, for each of 10 elements a row
    assert born(matrix(rows), lambda x: functional.dropout(x, 0.3)) == [10 * rows, 40 * rows]


@pytest.mark.parametrize("rows", ROWS)
def test_inference_drops_nothing_out(rows):
    def run(x):
        with torch.inference_mode():
            functional.dropout(x, 0.3, training=False)

    assert born(matrix(rows), run) == []


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("dtype", "converted"), [(torch.float16, []), (torch.bfloat16, [40])])
def test_softmax_in_float32_reads_float16_as_it_is(rows, dtype, converted):
    # 4 bytes an element, and a float32 copy of the input where it is bfloat16
    for function in (torch.softmax, torch.log_softmax):
        found = born(matrix(rows, dtype), lambda x, f=function: f(x, -1, dtype=torch.float32))
        assert found == [size * rows for size in (*converted, 40)]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("function", "elements"),
    # the cast input of 10 float32 numbers a row, and a result of as many; sums read 16-bit numbers
    [
        (torch.exp, [40, 40]),
        (lambda x: x.pow(2), [40, 40]),
        (torch.rsqrt, [40, 40]),
        (lambda x: torch.softmax(x, -1), [40, 40]),
        (lambda x: x.cumsum(-1), [40, 40]),
        (lambda x: x.sum(-1), [4]),
        (lambda x: x.norm(2, -1), [4]),
        (torch.relu, [20]),
    ],
)
def test_autocast_runs_in_float32_what_it_does_on_cuda(function, elements, rows):
    def run(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            function(x)

    assert born(matrix(rows, torch.bfloat16), run) == [size * rows for size in elements]


@pytest.mark.parametrize("length", [40, 72, 128])
def test_attention_inside_a_module_is_found(length):
    """``nn.MultiheadAttention`` calls it from Python code that torch's function modes do not see into."""

    def make():
        attention = nn.MultiheadAttention(32, 2, bias=False, batch_first=True).to(torch.bfloat16)
        return attention, torch.empty(1, length, 32, dtype=torch.bfloat16)

    sizes = born(make, lambda made: made[0](made[1], made[1], made[1], need_weights=False))
    assert 4 * 2 * length in sizes  # flash: the logarithms of the sums, float32 for 2 heads
    assert 2 * 2 * length * length not in sizes  # nobody made the scores


@pytest.mark.parametrize("length", [16, 40, 128])
def test_a_mask_of_odd_length_is_padded_for_the_efficient_kernel(length):
    def make():
        query = torch.empty(1, 2, length - 3, 16)
        return query, torch.ones(length - 3, length - 3, dtype=torch.bool)

    def run(made):
        functional.scaled_dot_product_attention(made[0], made[0], made[0], made[1])

    # two single numbers, the mask in numbers, then padded to the next multiple of 8, which the lengths are 3 short of
    assert born(make, run)[2:4] == [4 * (length - 3) ** 2, 4 * (length - 3) * length]


@pytest.mark.parametrize("length", [16, 40, 128])
def test_the_seed_of_efficient_attention_is_not_on_the_gpu(length):
    def run(x):
        functional.scaled_dot_product_attention(x, x, x)

    # the result, and float32 logarithms of the sums of 2 heads, their rows padded to 32
    sums = 2 * -(-length // 32) * 32 * 4
    assert born(lambda: torch.empty(1, 2, length, 16, requires_grad=True), run) == [*SEEDS, 2 * length * 16 * 4, sums]


@pytest.mark.parametrize("length", [16, 40, 128])
def test_attention_by_matrix_products_adds_its_mask_in_place(length):
    def make():
        query = torch.empty(1, 2, length, 16, dtype=torch.bfloat16, requires_grad=True)
        return query, torch.zeros(length, length, dtype=torch.bfloat16)

    def run(made):
        functional.scaled_dot_product_attention(made[0], made[0], made[0], made[1])

    part, scores = 2 * length * 16 * 4, 2 * length * length * 4
    # in float32: query, key and value, query and key scaled, their products; the softmax, which elements are masked,
    # which rows, and a zero. The weights in 16 bits, which are returned too; the result, and that in 16 bits
    found = [size for size in born(make, run, find_gpu("t4-16gb")) if size != WORKSPACE]
    assert found == [*[part] * 5, scores, scores, scores // 4, 2 * length, 4, scores // 2, part, part // 2]


@pytest.mark.parametrize("length", [24, 40, 128])
def test_attention_by_matrix_products_keeps_shared_heads_to_the_end(length):
    def make():
        query = torch.empty(1, 2, length, 16, dtype=torch.bfloat16)
        return query, torch.empty(1, 1, length, 16, dtype=torch.bfloat16)

    def run(made):
        query, shared = made
        functional.scaled_dot_product_attention(query, shared, shared, enable_gqa=True)

    # key and value in float32, of one head, from which those of two are repeated
    found, shared = events(make, run, find_gpu("t4-16gb")), length * 16 * 4
    last = max(place for place, size in enumerate(found) if size > 0)
    assert found[1:3] == [shared] * 2
    assert -shared not in found[:last]


@pytest.mark.parametrize("rows", ROWS)
def test_attention_that_is_switched_off_is_passed_over(rows):
    def run(x):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            functional.scaled_dot_product_attention(x, x, x)

    scores = 2 * rows * rows * 2
    assert scores in born(lambda: torch.empty(1, 2, rows, 16, dtype=torch.bfloat16), run)


@pytest.mark.parametrize("rows", ROWS)
def test_a_softmax_goes_back_by_a_product(rows):
    def run(x):
        torch.softmax(x, -1).backward(torch.empty_like(x))

    # result, its gradient; the gradient of the input and the product of gradient and result; 40 bytes a row each
    assert born(matrix(rows), run) == [40 * rows] * 4


@pytest.mark.parametrize("length", [24, 40, 128])
@pytest.mark.parametrize(("by_heads", "copies"), [(True, 2), (False, 0)])
def test_flash_attention_goes_back_over_copies_of_what_lies_by_heads(length, by_heads, copies):
    def make():
        shape = (1, 2, length, 16) if by_heads else (1, length, 2, 16)
        parts = [torch.empty(shape, dtype=torch.bfloat16) for _ in range(2)]
        query, gradient = parts if by_heads else (part.transpose(1, 2) for part in parts)
        return query.requires_grad_(), gradient

    def run(made):
        functional.scaled_dot_product_attention(made[0], made[0], made[0]).backward(made[1])

    part, sums = 2 * length * 16 * 2, 2 * length * 4
    # softmax_d and dq_accum, with the length rounded up to 128 and the head to 32
    scratch = [2 * 128 * 4, 128 * 2 * 32 * 4]
    # the result, its sums and the generator's state; three gradients; copies of the result and its gradient
    assert born(make, run) == [part, sums, 16, 8, *[part] * (3 + copies), *scratch]


@pytest.mark.parametrize(
    ("dtype", "sums"),
    # 500 partial sums are counted in 8 bytes each; where the gradient has 16 bits, 50 rows of 6 in float32 besides
    [(torch.float32, []), (torch.bfloat16, [50 * 6 * 4]), (torch.float64, [])],
)
def test_the_gradient_of_a_table_of_few_rows_is_summed_in_place(dtype, sums):
    def make():
        return torch.empty(50, 6, dtype=dtype, requires_grad=True), torch.zeros(4500, dtype=torch.long)

    def run(made):
        functional.embedding(made[1], made[0]).backward(torch.empty(4500, 6, dtype=dtype))

    # where 4500 indices begin anew, the sums of 50, and between them what scanning these takes: 33 states of 16 bytes
    scan = 3 * 256 + 256 + 255
    assert born(make, run)[-6 - len(sums) :] == [400, 400, scan, 8, 4000, 4000, *sums]


@pytest.mark.parametrize("indices", [4000, 20_000])
def test_partial_sums_of_float64_are_float64(indices):
    def make():
        return torch.empty(50_000, 6, dtype=torch.float64, requires_grad=True), torch.zeros(indices, dtype=torch.long)

    def run(made):
        functional.embedding(made[1], made[0]).backward(torch.empty(indices, 6, dtype=torch.float64))

    assert born(make, run)[-1] == (indices // 10 + indices) * 6 * 8


def test_an_optimizer_that_raises_leaves_nothing_behind():
    """What is made without a device once its phase is over counts again."""

    class Raises(torch.optim.SGD):
        def step(self, closure=None):
            raise ValueError("as planned")

    recorder = VirtualRecorder(cuda_rules(GPU), keep_real=False, kernels=cuda_kernels(GPU))
    recorder.start()
    try:
        with recorder.phase("backward"), suppress(ValueError):
            Raises([torch.empty(3, requires_grad=True)]).step()
        number = torch.zeros(())
        recording = recorder.finish()
    finally:
        recorder.abandon()
    assert number.shape == ()
    assert recording.events.requested.tolist() == [12, -12, 4]


@pytest.mark.parametrize("rows", ROWS)
def test_indices_that_lie_apart_are_copied(rows):
    def make():
        return torch.empty(50, 3), torch.zeros(1, 7, dtype=torch.long).expand(rows, 7)

    # 8 bytes an index, and 3 float32 numbers for each
    assert born(make, lambda made: functional.embedding(made[1], made[0])) == [56 * rows, 84 * rows]


@pytest.mark.parametrize("indices", [3072, 4000, 20_000])
def test_the_gradient_of_an_embedding_sorts_many_indices(indices):
    """The sizes are those that torch 2.13 asks CUDA's allocator for."""

    def make():
        return torch.empty(50_000, 6, requires_grad=True), torch.zeros(indices, dtype=torch.long)

    def run(made):
        functional.embedding(made[1], made[0]).backward(torch.empty(indices, 6))

    table, index, partial = 50_000 * 6 * 4, indices * 8, indices // 10 + indices
    sort = radix_sort_bytes(indices, 8, 16 if TORCH >= (2, 13) else 64, GPU)
    first, sums = unique_bytes(indices, GPU), scan_bytes(indices)
    sorting = [index, index, index, sort, table, index, 8, index, first, index, index, sums, 8]
    sorting += [partial * 8, partial * 24]
    # the result, its gradient, and then
    assert born(make, run)[2:] == ([table] if indices == 3072 else sorting)


@pytest.mark.parametrize("length", [64, 128])
def test_scratch_of_efficient_attention_is_not_there_all_at_once(length):
    """The product of gradient and result goes with its sums once these are copied, before the kernel's workspace."""

    def make():
        return torch.empty(2, 3, length, 64, requires_grad=True), torch.empty(2, 3, length, 64)

    def run(made):
        query, gradient = made
        aten = torch.ops.aten
        result, sums, seed, offset = aten._scaled_dot_product_efficient_attention(query, query, query, None, True)
        aten._scaled_dot_product_efficient_attention_backward(
            gradient, query, query, query, None, result, sums, seed, offset, 0.0, [True, True, True, False]
        )

    part, sums = 2 * 3 * length * 64 * 4, 2 * 3 * length * 4
    tiles = 2 * 3 * (length // 64) * (64 * 64 * 4 + 16)
    # the result and its sums, three gradients, a copy of the gradient, which lies by heads
    kept = 5 * part + sums + sum(SEEDS)
    assert most(make, lambda made: torch.no_grad()(run)(made)) == kept + max(part + sums + sums, sums + tiles)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("columns", [20, 32])
@pytest.mark.parametrize(("dtype", "element_bytes"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2)])
def test_grouped_products_are_of_any_type(rows, columns, dtype, element_bytes):
    """Fake tensors alone want bfloat16; on GPUs without grouped kernels, and in other types, torch makes do."""
    if dtype == torch.bfloat16 and columns % 8:
        pytest.skip("rows of bfloat16 begin at multiples of 16 bytes")

    def make():
        offsets = torch.tensor([rows // 2, rows], dtype=torch.int32)
        return torch.empty(rows, 16, dtype=dtype), torch.empty(2, 16, columns, dtype=dtype), offsets

    assert born(make, lambda made: torch._grouped_mm(made[0], made[1], offs=made[2])) == [
        columns * rows * element_bytes
    ]


# -- autocast ---------------------------------------------------------------------------------------------------------


def under_autocast(function):
    def run(made):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            function(made)

    return run


def test_autocast_has_an_answer_for_every_operator_that_cuda_casts():
    names = {name for name, _ in autocast_kernels(CastCache())}
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    every = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")]
    cuda = {name.removeprefix("aten::") for name in every if has(name, "AutocastCUDA")}
    cpu = {name.removeprefix("aten::") for name in every if has(name, "AutocastCPU")}
    assert cpu - cuda <= names
    # what is cuDNN's, or goes by names of dimensions
    left = {name for name in cuda - names if "imname" not in name and not name.startswith(("cudnn", "_cudnn"))}
    assert left <= {"norm.names_ScalarOpt_dim", "linalg_matrix_sqrth"}


@pytest.mark.parametrize("rows", ROWS)
def test_cross_entropy_reads_16_bit_numbers(rows):
    """The CPU's autocast casts what cross entropy is given; CUDA's does not, and the logarithms stay in 16 bits."""

    def make():
        return torch.empty(rows, 10, dtype=torch.bfloat16), torch.zeros(rows, dtype=torch.long)

    sizes = born(make, under_autocast(lambda made: functional.cross_entropy(*made)))
    assert sizes[:2] == [20 * rows, 40 * rows]  # logarithms in 16 bits, and in float32 for the loss


@pytest.mark.parametrize("rows", ROWS)
def test_what_the_cpus_autocast_alone_casts_is_left_as_it_is(rows):
    def make():
        return torch.empty(rows, 10, dtype=torch.bfloat16), torch.empty(rows, 10)

    assert born(make, under_autocast(lambda made: torch.cat([made[0], made[0]]))) == [40 * rows]
    assert born(make, under_autocast(lambda made: torch.stack([made[1], made[1]]))) == [80 * rows]


@pytest.mark.parametrize("rows", ROWS)
def test_autocast_casts_for_einsum_once(rows):
    def make():
        return nn.Parameter(torch.empty(10, 10)), torch.empty(rows, 10)

    def run(made):
        for _ in range(2):
            torch.einsum("ri,io->ro", made[1], made[0])

    sizes = [size for size in born(make, under_autocast(run)) if size != WORKSPACE]
    # in 16 bits: the input and the result each time, and the parameter once, however often it is used
    assert sizes.count(200) == (3 if rows == 10 else 1)
    assert sizes.count(20 * rows) == 4


def test_inference_mode_casts_anew_each_time():
    def make():
        return nn.Parameter(torch.empty(16, 16)), torch.empty(4, 16)

    def run(made):
        with torch.inference_mode():
            for _ in range(3):
                torch.einsum("ri,io->ro", made[1], made[0])

    assert born(make, under_autocast(run)).count(16 * 16 * 2) == 3


def test_a_parameter_is_cast_once_for_all_operators_and_keeps_its_gradient():
    def make():
        return nn.Parameter(torch.empty(16, 16)), torch.empty(4, 16)

    def run(made):
        weight, x = made
        with torch.no_grad():
            torch.einsum("ri,io->ro", x, weight)
        torch.mv(weight, x[0])
        (functional.linear(x, weight).sum() + torch.einsum("ri,io->ro", x, weight).sum()).backward()
        assert weight.grad is not None

    # the cast; its gradient by either use, and their sum
    assert born(make, under_autocast(run)).count(16 * 16 * 2) == 4


def test_autocast_takes_the_widest_type_of_several():
    def make():
        return torch.empty(6, 10, dtype=torch.bfloat16), torch.empty(6, 10)

    assert born(make, under_autocast(lambda made: torch.atan2(made[0], made[1]))) == [240, 240]
    assert born(make, under_autocast(lambda made: torch.atan2(made[0], made[0]))) == [120]


def test_a_program_that_asks_for_autocast_is_told_of_it():
    def asked(device):
        with cuda_kernels(GPU), torch.autocast("cpu", dtype=torch.bfloat16):
            return torch.is_autocast_enabled(*device), torch.get_autocast_dtype("cuda")

    assert asked([]) == asked(["cuda"]) == asked(["cpu"]) == (True, torch.bfloat16)
    with cuda_kernels(GPU):
        assert not torch.is_autocast_enabled()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.is_autocast_enabled()


def test_what_a_program_switches_of_cudas_autocast_is_put_back():
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with cuda_kernels(GPU), torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cuda", enabled=False):
        pass
    assert (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")) == before


@pytest.mark.filterwarnings("error", r"ignore:.*torch.cuda.amp.autocast:FutureWarning")
@pytest.mark.parametrize(
    ("region", "alone", "inside_bfloat16"),
    [
        (lambda: torch.autocast("cuda"), torch.float16, torch.bfloat16),  # the type that holds already
        (lambda: torch.autocast(device_type="cuda", dtype=torch.bfloat16), torch.bfloat16, torch.bfloat16),
        (lambda: torch.cuda.amp.autocast(), torch.float16, torch.float16),
        (lambda: torch.autocast("cuda", enabled=False), torch.float32, torch.float32),
    ],
)
def test_a_region_that_names_the_gpu_holds_for_what_stands_for_it(region, alone, inside_bfloat16):
    seen = []

    def run(made):
        for around in (nullcontext(), torch.autocast("cpu", dtype=torch.bfloat16)):
            with around, region():
                seen.append(functional.linear(*made).dtype)

    born(lambda: (torch.empty(4, 16), torch.empty(8, 16)), run)
    assert seen == [alone, inside_bfloat16]


def test_autocast_is_afterwards_what_it_was():
    def state():
        return [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")]

    before, begin = state(), torch.autocast.__init__
    with cuda_kernels(GPU):
        torch.set_autocast_dtype("cuda", torch.bfloat16)
    assert state() == before
    assert torch.autocast.__init__ is begin


def test_binary_cross_entropy_is_refused_as_on_cuda():
    def run(x):
        functional.binary_cross_entropy(x, x)

    with pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
        born(lambda: torch.empty(4, 10), under_autocast(run))


@pytest.mark.parametrize("length", [16, 40, 128])
def test_checkpointing_recomputes_the_same_operators(length):
    def block(x):
        return functional.dropout(functional.scaled_dot_product_attention(x, x, x), 0.5)

    def run(x):
        checkpoint(block, x, use_reentrant=False).sum().backward()

    sizes = born(lambda: torch.empty(1, 2, length, 16, requires_grad=True), run)
    assert sizes.count(2 * length * 16) == 2  # the mask of dropout, once in forward and once in backward


@pytest.mark.parametrize(("rows", "width"), [(2, 5), (3, 70), (1, 9)])
def test_rms_norm_keeps_the_inverse_root_alone(rows, width):
    def make():
        return torch.empty(rows, width, requires_grad=True), torch.empty(width, requires_grad=True)

    def run(made):
        functional.rms_norm(made[0], (width,), made[1]).sum().backward()

    size = 4 * rows * width
    # the result, a root for each row; the sum and its gradient, which is copied, being one number that is repeated; the
    # gradients of input and weight
    assert born(make, run) == [size, 4 * rows, 4, 4, size, size, 4 * width]


PLACES = [(2, 8, 5), (3, 200, 2), (1, 40, 7)]
"""Images, channels, and places in both directions."""


@pytest.mark.parametrize(("images", "channels", "side"), PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm_keeps_two_float32_statistics_of_a_channel(images, channels, side, dtype):
    def make():
        norm = nn.BatchNorm2d(channels)
        return norm, torch.empty(images, channels, side, side, dtype=dtype, requires_grad=True)

    def run(made):
        norm, given = made
        norm(given).backward(torch.empty_like(given))

    size, of_channel = dtype.itemsize * images * channels * side**2, 4 * channels
    # the result, mean and deviation; the gradient given; those of input, weight and bias
    # (cudnn_batch_norm and its backward, aten/src/ATen/native/cudnn/BatchNorm.cpp)
    assert born(make, run) == [size, of_channel, of_channel, size, size, of_channel, of_channel]


@pytest.mark.parametrize(("images", "channels", "side"), PLACES)
def test_group_norm_folds_weight_and_statistics(images, channels, side):
    def make():
        norm = nn.GroupNorm(4, channels)
        return norm, torch.empty(images, channels, side, side, requires_grad=True)

    def run(made):
        norm, given = made
        norm(given).backward(torch.empty_like(given))

    size, of_weight, of_group = 4 * images * channels * side**2, 4 * channels, 4 * images * 4
    of_channel = images * of_weight
    # result, mean, deviation, then scratch; the gradient given; those of input, weight and bias, then scratch
    # (native_group_norm and its backward, aten/src/ATen/native/group_norm.cpp; cuda/group_norm_kernel.cu)
    forward = [size, of_group, of_group, of_channel, of_channel]
    backward = [size, of_weight, of_weight, of_channel, of_channel, of_group, of_group, of_channel]
    assert born(make, run) == [*forward, size, *backward]


@pytest.mark.parametrize("sizes", [(100, 300), (1, 7, 50), (4096,)])
@pytest.mark.parametrize(
    ("form", "roots"),
    # torch/optim/adam.py: a loop makes the root of the second moment and its quotient with a number, one parameter
    # after another; foreach makes the roots of all and divides them in place; the fused kernel
    # (aten/src/ATen/native/cuda/FusedAdamKernel.cu) makes nothing
    [({"foreach": False}, 2), ({"foreach": True}, 1), ({"fused": True}, 0)],
)
def test_a_steady_step_of_adamw(sizes, form, roots):
    def make():
        parameters = [torch.empty(size, requires_grad=True) for size in sizes]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer = torch.optim.AdamW(parameters, **form)
        optimizer.step()
        return optimizer

    assert born(make, lambda optimizer: optimizer.step()) == [4 * size for size in sizes for _ in range(roots)]


@pytest.mark.parametrize("rows", ROWS)
def test_a_second_gradient_is_added_in_place(rows):
    def make():
        parameter = matrix(rows)()
        parameter.grad = torch.empty_like(parameter)
        return parameter

    def run(parameter):
        (parameter * 2).backward(torch.empty_like(parameter))

    # the product, the gradient given, the parameter's new gradient; their sum takes the old one's place
    # (AccumulateGrad::accumulateGrad in torch/csrc/autograd/functions/accumulate_grad.h)
    assert born(make, run) == [40 * rows] * 3


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("name", "workspace"), [("a100-80gb", 8519680), ("h100-80gb", 2**25), ("t4-16gb", 8519680)])
def test_each_threads_first_product_takes_a_workspace(rows, name, workspace):
    def make():
        return matrix(rows)(), torch.empty(10, 6, requires_grad=True)

    def run(made):
        left, right = made
        for _ in range(2):
            (left @ right).backward(torch.empty(rows, 6))

    # forward: the product and the program's workspace; backward: the gradient given, that of the right matrix and the
    # engine's workspace, that of the left; the second time no workspace, and the gradients are added in place
    product, gradients = 24 * rows, [240, 40 * rows]
    expected = [product, workspace, product, gradients[0], workspace, gradients[1], product, product, *gradients]
    assert born(make, run, find_gpu(name)) == expected


@pytest.mark.parametrize("rows", ROWS)
def test_a_repeated_number_is_written_out_for_a_product(rows):
    def make():
        return matrix(rows)(), torch.empty(10, 6, requires_grad=True)

    def run(made):
        left, right = made
        (left @ right).sum().backward()

    sizes = born(make, run)
    # the product and the workspace, the sum, its gradient; then [rows, 6] copied for either product of backward
    assert sizes[4:] == [240, 8519680, 24 * rows, 40 * rows, 24 * rows]
