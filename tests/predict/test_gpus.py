"""The table of GPUs: what each row must keep to, near misses, and which GPU stands for an amount of memory."""

import pytest

from vramscope.errors import UsageError
from vramscope.predict.gpus import CONTEXT_BYTES, GIB, GPUS, find_gpu, nearest_gpu, neighbours


@pytest.mark.parametrize("name", GPUS)
def test_a_row(name):
    gpu = GPUS[name]
    assert gpu.name == name == name.lower()
    assert name.endswith(f"-{gpu.memory_bytes // GIB}gb")
    # the driver and error correction keep at most a tenth, and a context fits what is left
    assert gpu.memory_bytes * 9 // 10 < gpu.usable_bytes < gpu.memory_bytes
    assert CONTEXT_BYTES[1] < gpu.usable_bytes
    assert gpu.multiprocessors > 0


def test_every_architecture_from_pascal_to_blackwell_is_there():
    assert {gpu.capability[0] for gpu in GPUS.values()} == {6, 7, 8, 9, 10, 12}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rtx4090", "rtx4090-24gb"),
        ("RTX 3090", "rtx3090-24gb, rtx3090ti-24gb"),
        ("a100", "a100-40gb, a100-80gb"),
        ("h100-80", "h100-80gb"),
        ("h10-80gb", "h100-80gb"),
    ],
)
def test_near_misses(name, near):
    with pytest.raises(UsageError, match=f"did you mean {near}"):
        find_gpu(name)


def test_nothing_is_near_to_nonsense():
    with pytest.raises(UsageError, match="--gpu list` names all"):
        find_gpu("???")


@pytest.mark.parametrize(
    ("size", "name"),
    # the smallest that has as much; of equals the newest; more than any has: the largest
    [(24 * GIB, "rtx4090-24gb"), (20 * GIB + 1, "rtx4090-24gb"), (80 * GIB, "h100-80gb"), (1000 * GIB, "b300-288gb")],
)
def test_a_gpu_for_an_amount_of_memory(size, name):
    assert nearest_gpu(size).name == name


def test_neighbours_are_of_the_same_architecture_where_there_are_some():
    smaller, larger = neighbours(GPUS["rtx4090-24gb"])
    assert (smaller.name, larger.name) == ("rtx4000ada-20gb", "rtx5000ada-32gb")
    assert neighbours(GPUS["b300-288gb"])[1] is None
    assert neighbours(GPUS["rtx2060-6gb"])[0] is None
