"""The temporary storage of CUB, the library of NVIDIA's that PyTorch sorts, scans and selects with.

Sizes follow from how many tiles a thread block each takes, which CUB chooses by the GPU's compute capability.

Source: cub/device/dispatch/dispatch_radix_sort.cuh, dispatch_scan.cuh and dispatch_unique_by_key.cuh; the elements of a
tile by what torch 2.11 to 2.14 ask for.
"""

from collections.abc import Sequence

from vramscope.predict.gpus import Gpu
from vramscope.recorders.torch_version import TORCH

_ALIGNMENT = 256
_DIGIT_BITS, _DIGITS = 8, 256
_COUNT_BYTES, _PLACE_BYTES = 8, 4
_ONE_TILE = {4: 4864, 8: 2304}
"""Elements that one thread block sorts, by bytes of key or index, the larger of them."""
_STATE_BYTES, _SPARE_TILES = 16, 32
_AMPERE, _HOPPER, _BLACKWELL = (8, 0), (9, 0), (10, 0)
_SORTED = {(4, 4): (11776, 6528, 6528), (4, 8): (2816, 3072, 5376), (8, 8): (2816, 3840, 4608)}
"""Elements of a tile, by bytes of a key and of its index: before capability 8.0, before 9.0, from then on."""
_NARROW, _WIDE = 4, 8
_SCANNED, _SCANNED_NARROW, _SCANNED_BY_KEY = 896, 3840, 1536
_ROWS = (2816, 3840, 5760)
_SELECTED = {4: 704, 8: 320}
_TUNED = {
    4: {_AMPERE: 2816, _HOPPER: 7168, _BLACKWELL: 7168},
    8: {_AMPERE: 1344, _HOPPER: 4928, _BLACKWELL: 4928}
    if TORCH >= (2, 13)
    else {_AMPERE: 1792, _HOPPER: 4608, _BLACKWELL: 3840},
}
"""Where a GPU has a tile of its own to select with, by bytes of a key."""


def radix_sort_bytes(elements: int, key_bytes: int, bits: int, gpu: Gpu, index_bytes: int = 8) -> int:
    """Bytes to sort keys of which ``bits`` are looked at, each with an index.

    Counts of digits for every pass over eight bits, a place for every tile and digit, and room for the keys and indices
    of a pass, unless there is one pass alone. Few elements one thread block sorts, with nothing. Keys of fewer than
    four bytes are sorted in another way, which takes 4 to 5 MB more that are not counted.

    Example:
        100,000 keys of eight bytes below 300, on an A100: nine bits, so two passes of 2048 bytes, 27 tiles of 3840 by
        1024 bytes, 800,000 bytes each for keys and indices, and 256 for counters of passes; with what alignment may
        cost, 1,632,255 bytes.
    """
    if elements <= _ONE_TILE[max(key_bytes, index_bytes)]:
        return 1
    passes = -(-bits // _DIGIT_BITS)
    room = [elements * key_bytes, elements * index_bytes] if passes > 1 else []
    if (key_bytes, index_bytes) not in _SORTED:
        return together(room)
    tiles = -(-elements // _of(_SORTED[key_bytes, index_bytes], gpu))
    return together([passes * _DIGITS * _COUNT_BYTES, tiles * _DIGITS * _PLACE_BYTES, *room, passes * _COUNT_BYTES])


def row_sort_bytes(elements: int, gpu: Gpu) -> int:
    """Bytes to bring what is sorted back into its rows, of which there are fewer than 128: one pass."""
    tiles = -(-elements // _of(_ROWS, gpu))
    return together([_DIGITS * _COUNT_BYTES, tiles * _DIGITS * _PLACE_BYTES, _COUNT_BYTES])


def _of(tiles: tuple[int, int, int], gpu: Gpu) -> int:
    return tiles[(gpu.capability >= _AMPERE) + (gpu.capability >= _HOPPER)]


def scan_bytes(elements: int, element_bytes: int = 8) -> int:
    """Bytes for running sums; of numbers of other than four or eight bytes the least that is asked for."""
    if element_bytes == _NARROW:
        return together([_STATE_BYTES * (-(-elements // _SCANNED_NARROW) + _SPARE_TILES)])
    return _states(elements if element_bytes == _WIDE else 1, _SCANNED)


def scan_by_key_bytes(elements: int) -> int:
    """Bytes for running counts of equal keys."""
    return _states(elements, _SCANNED_BY_KEY)


def unique_bytes(elements: int, gpu: Gpu, key_bytes: int = 8) -> int:
    """Bytes to select the first of equal keys, of four or eight bytes."""
    own = _TUNED[key_bytes]
    return _states(elements, own.get(min(gpu.capability, _BLACKWELL), _SELECTED[key_bytes]))


def together(sizes: Sequence[int]) -> int:
    """Bytes of one block for several arrays, each at a multiple of 256 wherever the block lies."""
    return sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes) + _ALIGNMENT - 1


def _states(elements: int, tile: int) -> int:
    return together([_STATE_BYTES * (-(-elements // tile) + _SPARE_TILES), 1])
