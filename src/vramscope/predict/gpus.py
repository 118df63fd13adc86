"""GPUs by name: memory, architecture, and what the CUDA libraries take on them.

Memory and multiprocessors are those of NVIDIA's data sheets and architecture white papers; compute capabilities are
those of https://developer.nvidia.com/cuda-gpus and cuda-legacy-gpus.
"""

import difflib
from dataclasses import dataclass

from vramscope.errors import UsageError

MIB, GIB = 1024**2, 1024**3
_HOPPER_LIKE = (9, 10, 12)
_WORKSPACE_HOPPER = 32 * MIB
_WORKSPACE = (4096 * 2 + 16 * 8) * 1024
"""``:4096:2:16:8``, the default of CUBLAS_WORKSPACE_CONFIG in KiB: 8,519,680 bytes."""
CONTEXT_BYTES = (287_047_680, 666_632_192)
"""CUDA context and kernels of a process, outside the allocator: with kernels loaded as they are first used, and with
all of them loaded. Source: what ``cudaMemGetInfo`` says is gone after one tensor, CUDA_MODULE_LOADING=LAZY and not,
in pytorch/pytorch#86509; a bare context took 426 MiB on an RTX 6000 Ada (unslothai/unsloth-zoo#1053). One range
for every GPU: no measurement by model is published."""
_MOST_NEAR_MISSES = 3
_GENERATIONS = (
    ((6, 0), "Pascal"),
    ((7, 0), "Volta"),
    ((7, 5), "Turing"),
    ((8, 0), "Ampere"),
    ((8, 9), "Ada Lovelace"),
    ((9, 0), "Hopper"),
    ((10, 0), "Blackwell"),
)
"""The lowest compute capability of each (https://developer.nvidia.com/cuda-gpus)."""


@dataclass(frozen=True)
class Gpu:
    """A GPU model.

    ``memory_bytes`` is what its name promises. ``usable_bytes`` is what CUDA has for programs in all, contexts
    included; the driver, and error correction where it is on, keep the rest. ``capability`` is (major, minor);
    ``multiprocessors`` decides how reductions are split.
    """

    name: str
    title: str
    memory_bytes: int
    usable_bytes: int
    capability: tuple[int, int]
    multiprocessors: int

    @property
    def generation(self) -> str:
        """NVIDIA's name of the architecture."""
        known = [name for since, name in _GENERATIONS if self.capability >= since]
        return known[-1]

    @property
    def cublas_workspace_bytes(self) -> int:
        """One handle's workspace (``parseChosenWorkspaceSize``, aten/src/ATen/cuda/CublasHandlePool.cpp)."""
        return _WORKSPACE_HOPPER if self.capability[0] in _HOPPER_LIKE else _WORKSPACE

    @property
    def threads_per_multiprocessor(self) -> int:
        """Resident threads at most (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""
        if self.capability == (7, 5):
            return 1024
        return 1536 if self.capability in ((8, 6), (8, 9), (12, 0), (12, 1)) else 2048

    @property
    def has_flash_attention(self) -> bool:
        """``check_sm_version<sm80, …>`` (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""
        return self.capability >= (8, 0)


_USABLE_HUNDREDTHS = dict(
    zip(
        (6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 80, 94, 96, 141, 180, 288),
        (560, 760, 962, 1056, 1149, 1548, 1912, 2330, 3136, 3938, 4727, 7911, 9300, 9450, 13980, 17835, 26769),
        strict=True,
    )
)
"""Hundredths of a GiB by the GiB in the name: the smallest "total capacity" of NVIDIA GPUs of that size among torch's
out-of-memory messages in public repositories ("GPU 0 has a total capacity of 39.38 GiB")."""
_USABLE_WITH_ECC_HUNDREDTHS = {16: 1456, 24: 2203, 48: 4434}
"""Likewise for GDDR cards whose error correction takes a part of the memory: T4, A10 and L4, A40 and L40S."""


def _gpu(
    name: str, title: str, gib: int, capability: tuple[int, int], multiprocessors: int, ecc: bool = False
) -> tuple[str, Gpu]:
    usable = (_USABLE_WITH_ECC_HUNDREDTHS if ecc else _USABLE_HUNDREDTHS)[gib]
    return name, Gpu(name, title, gib * GIB, usable * GIB // 100, capability, multiprocessors)


GPUS: dict[str, Gpu] = dict(
    (
        # Pascal
        _gpu("gtx1070-8gb", "GeForce GTX 1070", 8, (6, 1), 15),
        _gpu("gtx1080-8gb", "GeForce GTX 1080", 8, (6, 1), 20),
        _gpu("gtx1080ti-11gb", "GeForce GTX 1080 Ti", 11, (6, 1), 28),
        _gpu("titan-xp-12gb", "Titan Xp", 12, (6, 1), 30),
        _gpu("p40-24gb", "Tesla P40", 24, (6, 1), 30, ecc=True),
        _gpu("p100-12gb", "Tesla P100 12 GB", 12, (6, 0), 56),
        _gpu("p100-16gb", "Tesla P100", 16, (6, 0), 56),
        # Volta
        _gpu("titan-v-12gb", "Titan V", 12, (7, 0), 80),
        _gpu("v100-16gb", "Tesla V100", 16, (7, 0), 80),
        _gpu("v100-32gb", "Tesla V100 32 GB", 32, (7, 0), 80),
        # Turing
        _gpu("gtx1660ti-6gb", "GeForce GTX 1660 Ti", 6, (7, 5), 24),
        _gpu("rtx2060-6gb", "GeForce RTX 2060", 6, (7, 5), 30),
        _gpu("rtx2070-8gb", "GeForce RTX 2070", 8, (7, 5), 36),
        _gpu("rtx2080-8gb", "GeForce RTX 2080", 8, (7, 5), 46),
        _gpu("rtx2080ti-11gb", "GeForce RTX 2080 Ti", 11, (7, 5), 68),
        _gpu("t4-16gb", "Tesla T4", 16, (7, 5), 40, ecc=True),
        _gpu("titan-rtx-24gb", "Titan RTX", 24, (7, 5), 72),
        _gpu("rtx8000-48gb", "Quadro RTX 8000", 48, (7, 5), 72),
        # Ampere
        _gpu("rtx3060-12gb", "GeForce RTX 3060", 12, (8, 6), 28),
        _gpu("rtx3070-8gb", "GeForce RTX 3070", 8, (8, 6), 46),
        _gpu("rtx3080-10gb", "GeForce RTX 3080", 10, (8, 6), 68),
        _gpu("rtx3080ti-12gb", "GeForce RTX 3080 Ti", 12, (8, 6), 80),
        _gpu("rtx3090-24gb", "GeForce RTX 3090", 24, (8, 6), 82),
        _gpu("rtx3090ti-24gb", "GeForce RTX 3090 Ti", 24, (8, 6), 84),
        _gpu("a4000-16gb", "RTX A4000", 16, (8, 6), 48),
        _gpu("a5000-24gb", "RTX A5000", 24, (8, 6), 64),
        _gpu("a6000-48gb", "RTX A6000", 48, (8, 6), 84),
        _gpu("a2-16gb", "A2", 16, (8, 6), 10, ecc=True),
        _gpu("a10-24gb", "A10", 24, (8, 6), 72, ecc=True),
        _gpu("a10g-24gb", "A10G", 24, (8, 6), 80, ecc=True),
        _gpu("a16-16gb", "A16, one of four", 16, (8, 6), 10, ecc=True),
        _gpu("a30-24gb", "A30", 24, (8, 0), 56),
        _gpu("a40-48gb", "A40", 48, (8, 6), 84, ecc=True),
        _gpu("a100-40gb", "A100", 40, (8, 0), 108),
        _gpu("a100-80gb", "A100 80 GB", 80, (8, 0), 108),
        # Ada Lovelace
        _gpu("rtx4060-8gb", "GeForce RTX 4060", 8, (8, 9), 24),
        _gpu("rtx4060ti-8gb", "GeForce RTX 4060 Ti 8 GB", 8, (8, 9), 34),
        _gpu("rtx4060ti-16gb", "GeForce RTX 4060 Ti", 16, (8, 9), 34),
        _gpu("rtx4070-12gb", "GeForce RTX 4070", 12, (8, 9), 46),
        _gpu("rtx4070ti-12gb", "GeForce RTX 4070 Ti", 12, (8, 9), 60),
        _gpu("rtx4070tisuper-16gb", "GeForce RTX 4070 Ti SUPER", 16, (8, 9), 66),
        _gpu("rtx4080-16gb", "GeForce RTX 4080", 16, (8, 9), 76),
        _gpu("rtx4090-24gb", "GeForce RTX 4090", 24, (8, 9), 128),
        _gpu("rtx4000ada-20gb", "RTX 4000 Ada", 20, (8, 9), 48),
        _gpu("rtx5000ada-32gb", "RTX 5000 Ada", 32, (8, 9), 100),
        _gpu("rtx6000ada-48gb", "RTX 6000 Ada", 48, (8, 9), 142),
        _gpu("l4-24gb", "L4", 24, (8, 9), 58, ecc=True),
        _gpu("l40-48gb", "L40", 48, (8, 9), 142, ecc=True),
        _gpu("l40s-48gb", "L40S", 48, (8, 9), 142, ecc=True),
        # Hopper
        _gpu("h100-80gb", "H100 SXM", 80, (9, 0), 132),
        _gpu("h100-pcie-80gb", "H100 PCIe", 80, (9, 0), 114),
        _gpu("h100-nvl-94gb", "H100 NVL", 94, (9, 0), 132),
        _gpu("gh200-96gb", "GH200", 96, (9, 0), 132),
        _gpu("h200-141gb", "H200", 141, (9, 0), 132),
        # Blackwell
        _gpu("rtx5060ti-16gb", "GeForce RTX 5060 Ti", 16, (12, 0), 36),
        _gpu("rtx5070-12gb", "GeForce RTX 5070", 12, (12, 0), 48),
        _gpu("rtx5070ti-16gb", "GeForce RTX 5070 Ti", 16, (12, 0), 70),
        _gpu("rtx5080-16gb", "GeForce RTX 5080", 16, (12, 0), 84),
        _gpu("rtx5090-32gb", "GeForce RTX 5090", 32, (12, 0), 170),
        _gpu("rtxpro6000-96gb", "RTX PRO 6000 Blackwell", 96, (12, 0), 188),
        _gpu("b300-288gb", "B300", 288, (10, 3), 148),
        _gpu("b200-180gb", "B200", 180, (10, 0), 148),
    )
)


def find_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        UsageError: there is none; near misses are named.
    """
    found = GPUS.get(name.strip().lower())
    if found is None:
        hint = f": did you mean {', '.join(near)}?" if (near := _near_misses(name)) else ":"
        raise UsageError(f"--gpu {name!r} is not in the table{hint} `vramscope estimate --gpu list` names all")
    return found


def _near_misses(name: str) -> list[str]:
    """Names that begin as this one does without its punctuation, such as ``RTX 4090``; else those that look like it."""
    plain = _letters_and_digits(name)
    begins = [known for known in GPUS if plain and _letters_and_digits(known).startswith(plain)]
    return begins[:_MOST_NEAR_MISSES] or difflib.get_close_matches(name.lower(), GPUS, n=_MOST_NEAR_MISSES, cutoff=0.4)


def _letters_and_digits(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def nearest_gpu(memory_bytes: int) -> Gpu:
    """The smallest GPU with at least that much memory by its name, the newest of equals; else the largest.

    Whose operator rules a prediction goes by where only an amount of memory is known.
    """
    able = [gpu for gpu in GPUS.values() if gpu.memory_bytes >= memory_bytes]
    if not able:
        return max(GPUS.values(), key=lambda gpu: gpu.memory_bytes)
    smallest = min(gpu.memory_bytes for gpu in able)
    return max((gpu for gpu in able if gpu.memory_bytes == smallest), key=lambda gpu: gpu.capability)


def neighbours(gpu: Gpu) -> tuple[Gpu | None, Gpu | None]:
    """The next smaller and the next larger GPU by the memory that the name promises; None where there is none.

    Among those of the same memory, the nearest compute capability wins.
    """
    sizes = {other.memory_bytes for other in GPUS.values()}
    smaller = max((size for size in sizes if size < gpu.memory_bytes), default=0)
    larger = min((size for size in sizes if size > gpu.memory_bytes), default=0)
    return _nearest_of_size(gpu, smaller), _nearest_of_size(gpu, larger)


def _nearest_of_size(gpu: Gpu, memory_bytes: int) -> Gpu | None:
    def distance(other: Gpu) -> tuple[int, int]:
        major, minor = gpu.capability
        return abs(other.capability[0] - major), abs(other.capability[1] - minor)

    return min((other for other in GPUS.values() if other.memory_bytes == memory_bytes), key=distance, default=None)
