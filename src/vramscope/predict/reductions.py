"""Scratch of a CUDA reduction whose inputs are split over several thread blocks.

Source: ``setReduceConfig``, ``ReduceConfig`` and ``gpu_reduce_kernel`` in aten/src/ATen/native/cuda/Reduce.cuh, for
contiguous tensors.
"""

from dataclasses import dataclass

from vramscope.predict.gpus import Gpu

_MOST_THREADS = 512
_WARP = 32
_VECTOR = 4
_FEWEST_VALUES, _MOST_VALUES = 16, 256
"""Of one thread: ``min_values_per_thread`` and ``max_values_per_thread``."""
_SEMAPHORE_BYTES = 4


@dataclass(frozen=True)
class Reduction:
    """``inputs`` values make each of ``outputs`` results; ``fastest`` tells whether the last dimension is reduced.

    A partial result takes ``accumulator_bytes``.
    """

    outputs: int
    inputs: int
    fastest: bool
    one_dimension: bool = False
    accumulator_bytes: int = 4


def reduction_scratch(reduction: Reduction, gpu: Gpu) -> tuple[int, ...]:
    """Bytes of the partial results and of the semaphores; nothing where one thread block sees all inputs of a result.

    Example:
        [1024, 1024] float32 summed over rows: four outputs per load leave 128 threads, a block of 32 by 4. Each thread
        has 1024 / 4 = 256 values, so that the inputs are split over 256 / 16 = 16 blocks. Partial results take
        4 bytes * 1024 outputs * 16 blocks * (32 threads * 4 outputs) = 8 MiB, semaphores 4 * 1024 / (4 * 32) = 32.
    """
    vector = _output_vector(reduction)
    width, height = _block(reduction, vector)
    step_inputs, step_outputs = (width, 1) if reduction.fastest else (1, width)
    splits_warps = _divide_up(reduction.inputs, step_inputs) >= min(height * 16, _MOST_VALUES)
    if not splits_warps:
        return ()
    values = _divide_up(reduction.inputs, step_inputs * height)
    grid = _divide_up(reduction.outputs // vector, step_outputs)
    target = gpu.multiprocessors * (gpu.threads_per_multiprocessor // (width * height))
    if values < _MOST_VALUES or grid > target:
        return ()
    blocks = max(min(_divide_up(target, grid), _divide_up(values, _FEWEST_VALUES)), _divide_up(values, _MOST_VALUES))
    if blocks <= 1:
        return ()
    lanes = 1 if reduction.fastest else width * vector
    return reduction.accumulator_bytes * reduction.outputs * blocks * lanes, _SEMAPHORE_BYTES * grid


def _output_vector(reduction: Reduction) -> int:
    """Outputs that one load serves: at most four, a divisor of their number; one if the last dimension is reduced."""
    vector = 1 if reduction.fastest else _VECTOR
    while reduction.outputs % vector:
        vector //= 2
    return vector


def _block(reduction: Reduction, vector: int) -> tuple[int, int]:
    """Threads of a block in both directions (``set_block_dimension``)."""
    across, along = (
        (reduction.inputs // (_VECTOR if reduction.one_dimension and reduction.inputs > 128 else 1), reduction.outputs)
        if reduction.fastest
        else (reduction.outputs // vector, reduction.inputs)
    )
    most = _MOST_THREADS // vector
    across, along = power_of_two(across, most), power_of_two(along, most)
    height = min(along, most // min(across, _WARP))
    return min(across, most // height), height


def power_of_two(value: int, most: int) -> int:
    """The largest power of two that is at most ``value`` and ``most``."""
    return min(1 << (max(value, 1).bit_length() - 1), most)


def _divide_up(value: int, by: int) -> int:
    return -(-value // by)
