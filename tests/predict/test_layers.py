"""Layers that CUDA computes otherwise than the CPU: cells, bags, norms, windows, chunks."""

import pytest
import torch
from tests.predict.running import GPU, ROWS, SEEDS, WORKSPACE, born, events, most
from torch import nn
from torch.nn import functional


def without_workspaces(sizes: list[int]) -> list[int]:
    return [size for size in sizes if size not in (WORKSPACE, 1024**2)]


@pytest.mark.parametrize("rows", ROWS)
def test_a_bias_is_added_in_place_to_what_is_no_matrix_of_rows(rows):
    def make():
        return nn.Linear(10, 6), torch.empty(3, rows, 10)

    def run(made):
        layer, given = made
        layer(given.transpose(0, 1))

    # the input by rows, and the product, in which the bias is added
    assert without_workspaces(born(make, run)) == [3 * rows * 40, 3 * rows * 24]


@pytest.mark.parametrize("rows", ROWS)
def test_an_lstm_cell_is_two_products_and_a_kernel(rows):
    def make():
        return nn.LSTMCell(10, 6), torch.empty(rows, 10)

    part = 24 * rows  # 6 float32 numbers a row
    # zeros for hidden state and cell, two products of four gates, what backward needs, hidden state and cell
    expected = [part, 4 * part, 4 * part, 4 * part, part, part]
    assert without_workspaces(born(make, lambda made: made[0](made[1]))) == expected


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
@pytest.mark.parametrize("given", [(4, 10), (10,)])
def test_cells_need_no_bias(cell, given):
    shapes = []

    def run(made):
        found = made[0](made[1])
        shapes.append((found[0] if isinstance(found, tuple) else found).shape)

    born(lambda: (cell(10, 6, bias=False), torch.empty(given)), run)
    assert shapes == [(*given[:-1], 6)]


@pytest.mark.parametrize("rows", ROWS)
def test_a_gru_cell_is_two_products_and_a_kernel(rows):
    def make():
        return nn.GRUCell(10, 6), torch.empty(rows, 10)

    part = 24 * rows
    forward = [part, 3 * part, 3 * part, 5 * part, part]
    assert without_workspaces(born(make, lambda made: made[0](made[1]))) == forward

    def run(made):
        made[0](made[1]).backward(torch.empty(rows, 6))

    found = without_workspaces(born(make, run))
    # gradients of both products, of the hidden state, and of two biases of 18 numbers
    assert found[len(forward) + 1 :][:5] == [3 * part, 3 * part, part, 72, 72]


def encoder(rows: int, **options):
    return lambda: (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, **options).eval(), torch.empty(2, rows, 16))


def for_inference(made):
    layer, given = made
    with torch.inference_mode():
        layer(given)


@pytest.mark.parametrize("rows", ROWS)
def test_an_encoder_layer_for_inference_is_one_operator(rows):
    part, statistics = 2 * rows * 64, 2 * rows * 4
    attention = [3 * part, *SEEDS, part, part]  # query, key and value; their attention; its projection
    norm = [part, statistics, statistics]
    expected = [*attention, *norm, 2 * part, part, *norm]
    assert without_workspaces(born(encoder(rows), for_inference)) == expected
    expected = [*norm, *attention, *norm, 2 * part, part]
    assert without_workspaces(born(encoder(rows, norm_first=True), for_inference)) == expected


@pytest.mark.parametrize("rows", ROWS)
def test_attention_with_weights_for_inference_has_scores(rows):
    def make():
        return nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.empty(2, rows, 16)

    def run(made):
        with torch.inference_mode():
            made[0](*[made[1]] * 3)

    part, scores = 2 * rows * 64, 2 * 2 * rows * rows * 4
    # query, key and value, then with their bias by heads; scores; the result by heads, and projected; weights by heads
    assert without_workspaces(born(make, run)) == [3 * part, 3 * part, scores, part, part, scores // 2]


@pytest.mark.parametrize("rows", ROWS)
def test_classes_one_hot_are_zeros_with_ones_put_in(rows):
    assert born(lambda: torch.zeros(rows, dtype=torch.long), lambda x: functional.one_hot(x, 7)) == [56 * rows]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("mode", "places"), [("sum", []), ("mean", []), ("max", [3 * 6 * 8])])  # of each bag's maxima
def test_bags_of_embeddings(mode, places, rows):
    def make():
        return torch.empty(50, 6), torch.zeros(rows, dtype=torch.long), torch.zeros(3, dtype=torch.long)

    def run(made):
        functional.embedding_bag(made[1], made[0], made[2], mode=mode)

    # sizes of bags, the bag of every index, the bags
    assert born(make, run) == [24, 8 * rows, 3 * 6 * 4, *places]


@pytest.mark.parametrize("rows", ROWS)
def test_the_gradient_of_bags_sorts_few_indices_too(rows):
    def make():
        table = torch.empty(500, 6, requires_grad=True)
        return table, torch.zeros(rows, dtype=torch.long), torch.zeros(3, dtype=torch.long)

    def run(made):
        functional.embedding_bag(made[1], made[0], made[2]).backward(torch.empty(3, 6))

    index, sums = 8 * rows, rows // 10 + rows
    sorting = [index, index, index, 1, 500 * 24, index, 8, index, 1279, index, index, 1279, 8, sums * 8, sums * 24]
    assert born(make, run)[-len(sorting) :] == sorting


@pytest.mark.parametrize("rows", ROWS)
def test_batches_of_rows_are_normalised_by_torchs_own_kernels(rows):
    def make():
        return nn.BatchNorm1d(10), torch.empty(rows, 10, requires_grad=True)

    def run(made):
        made[0](made[1]).backward(torch.empty(rows, 10))

    # result, mean, deviation, what backward is given; two sums, gradients of weight and bias, of the input
    counted = [size for size in born(make, run) if size != 8]  # the number of batches
    assert counted == [40 * rows, 40, 40, 40 * rows, 40, 40, 40, 40, 40 * rows]


def test_thread_blocks_that_share_channels_tell_each_other():
    def make():
        return nn.BatchNorm1d(70), torch.empty(5000, 70, requires_grad=True)

    def run(made):
        made[0](made[1]).backward(torch.empty(5000, 70))

    found = born(make, run)
    # 20 thread blocks of 256 rows; four numbers for each of 70 channels, or two; 3 times 32 channels wait for others
    assert [size for size in found if size in (4 * 70 * 20 * 4, 2 * 70 * 20 * 4, 12)] == [22_400, 12, 11_200, 12]


def test_channels_of_a_transposed_matrix_lie_apart():
    def make():
        return nn.BatchNorm1d(64), torch.empty(64, 4096)

    part = 4 * 64 * 4096
    counted = [size for size in born(make, lambda made: made[0](made[1].t())) if size != 8]
    assert counted == [part, 256, 256]  # 64 float32 numbers twice, and nothing that thread blocks share


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("dtype", "statistics"),
    # cuDNN, which makes none; bfloat16 is left to torch's own kernels
    [(torch.float32, []), (torch.bfloat16, [12, 12])],
)
def test_statistics_in_evaluation(dtype, statistics, rows):
    def make():
        return nn.BatchNorm2d(3, dtype=dtype).eval(), torch.empty(rows, 3, 5, 5, dtype=dtype)

    def run(made):
        with torch.inference_mode():
            made[0](made[1])

    assert born(make, run) == [rows * 75 * dtype.itemsize, *statistics]


def test_windows_are_written_where_the_input_was_to_be():
    def make():
        return torch.empty(1, 3, 12, 12)

    kept = []
    # 3 x 3 windows at 10 x 10 places take more than the input, at 4 x 4 places exactly as much, 2 x 2 at 4 x 4 less
    assert events(make, lambda x: kept.append(functional.unfold(x, 3)), GPU) == [1728, 10_800, -1728]
    assert events(make, lambda x: kept.append(functional.unfold(x, 3, stride=3)), GPU) == [1728]
    assert events(make, lambda x: kept.append(functional.unfold(x, 2, stride=3)), GPU) == [1728]
    assert [one.untyped_storage().nbytes() for one in kept] == [10_800, 1728, 1728]


@pytest.mark.skipif(not hasattr(functional, "linear_cross_entropy"), reason="since torch 2.13")
@pytest.mark.parametrize("chunks", [2, 5])
def test_cross_entropy_in_chunks_never_has_all_logits(chunks):
    rows, classes = 40, 3000

    def make():
        parts = torch.empty(rows, 8, requires_grad=True), torch.empty(classes, 8, requires_grad=True)
        return *parts, torch.zeros(rows, dtype=torch.long)

    def run(made):
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=rows // chunks)
        functional.linear_cross_entropy(*made, options=options)

    found = born(make, run)
    assert max(found) == rows // chunks * classes * 4  # the logits of one chunk
    assert most(make, run) < rows * classes * 4
