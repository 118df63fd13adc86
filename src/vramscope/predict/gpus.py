"""GPUs by name: memory, architecture, and what the CUDA libraries take on them.

Memory and multiprocessors are those of NVIDIA's data sheets and architecture white papers; compute capabilities are
those of the CUDA C++ Programming Guide, "Compute Capabilities".
"""

from dataclasses import dataclass

from vramscope.errors import UsageError

MIB, GIB = 1024**2, 1024**3
_HOPPER_LIKE = (9, 10, 12)
_WORKSPACE_HOPPER = 32 * MIB
_WORKSPACE = (4096 * 2 + 16 * 8) * 1024
"""``:4096:2:16:8``, the default of CUBLAS_WORKSPACE_CONFIG in KiB: 8,519,680 bytes."""
CONTEXT_BYTES = (290 * MIB, 430 * MIB)
"""CUDA context and lazily loaded kernels of a process that runs eager torch (CUDA_MODULE_LOADING=LAZY): measured range
over drivers and architectures, nvidia-smi less ``memory_reserved``. Eager loading takes about 670 MiB."""


@dataclass(frozen=True)
class Gpu:
    """A GPU model.

    ``memory_bytes`` is what its name promises; the driver keeps some of it, more with ECC. ``capability`` is (major,
    minor); ``multiprocessors`` decides how reductions are split.
    """

    name: str
    title: str
    memory_bytes: int
    capability: tuple[int, int]
    multiprocessors: int

    @property
    def cublas_workspace_bytes(self) -> int:
        """One handle's workspace (``parseChosenWorkspaceSize``, aten/src/ATen/cuda/CublasHandlePool.cpp)."""
        return _WORKSPACE_HOPPER if self.capability[0] in _HOPPER_LIKE else _WORKSPACE

    @property
    def threads_per_multiprocessor(self) -> int:
        """Resident threads at most (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""
        if self.capability == (7, 5):
            return 1024
        return 1536 if self.capability in ((8, 6), (8, 9), (12, 0)) else 2048

    @property
    def has_flash_attention(self) -> bool:
        """``check_sm_version<sm80, …>`` (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""
        return self.capability >= (8, 0)


def _gpu(name: str, title: str, gib: int, capability: tuple[int, int], multiprocessors: int) -> tuple[str, Gpu]:
    return name, Gpu(name, title, gib * GIB, capability, multiprocessors)


GPUS: dict[str, Gpu] = dict(
    (
        _gpu("gtx1080-8gb", "GeForce GTX 1080", 8, (6, 1), 20),
        _gpu("gtx1080ti-11gb", "GeForce GTX 1080 Ti", 11, (6, 1), 28),
        _gpu("p100-16gb", "Tesla P100", 16, (6, 0), 56),
        _gpu("p40-24gb", "Tesla P40", 24, (6, 1), 30),
        _gpu("v100-16gb", "Tesla V100", 16, (7, 0), 80),
        _gpu("v100-32gb", "Tesla V100", 32, (7, 0), 80),
        _gpu("t4-16gb", "Tesla T4", 16, (7, 5), 40),
        _gpu("rtx2060-6gb", "GeForce RTX 2060", 6, (7, 5), 30),
        _gpu("rtx2080ti-11gb", "GeForce RTX 2080 Ti", 11, (7, 5), 68),
        _gpu("titan-rtx-24gb", "Titan RTX", 24, (7, 5), 72),
        _gpu("a100-40gb", "A100", 40, (8, 0), 108),
        _gpu("a100-80gb", "A100", 80, (8, 0), 108),
        _gpu("a10-24gb", "A10", 24, (8, 6), 72),
        _gpu("a40-48gb", "A40", 48, (8, 6), 84),
        _gpu("a6000-48gb", "RTX A6000", 48, (8, 6), 84),
        _gpu("rtx3060-12gb", "GeForce RTX 3060", 12, (8, 6), 28),
        _gpu("rtx3080-10gb", "GeForce RTX 3080", 10, (8, 6), 68),
        _gpu("rtx3090-24gb", "GeForce RTX 3090", 24, (8, 6), 82),
        _gpu("l4-24gb", "L4", 24, (8, 9), 58),
        _gpu("l40s-48gb", "L40S", 48, (8, 9), 142),
        _gpu("rtx4060ti-16gb", "GeForce RTX 4060 Ti", 16, (8, 9), 34),
        _gpu("rtx4070-12gb", "GeForce RTX 4070", 12, (8, 9), 46),
        _gpu("rtx4080-16gb", "GeForce RTX 4080", 16, (8, 9), 76),
        _gpu("rtx4090-24gb", "GeForce RTX 4090", 24, (8, 9), 128),
        _gpu("h100-80gb", "H100 SXM", 80, (9, 0), 132),
        _gpu("h100-pcie-80gb", "H100 PCIe", 80, (9, 0), 114),
        _gpu("h200-141gb", "H200", 141, (9, 0), 132),
        _gpu("b200-192gb", "B200", 192, (10, 0), 148),
        _gpu("rtx5070-12gb", "GeForce RTX 5070", 12, (12, 0), 48),
        _gpu("rtx5080-16gb", "GeForce RTX 5080", 16, (12, 0), 84),
        _gpu("rtx5090-32gb", "GeForce RTX 5090", 32, (12, 0), 170),
    )
)


def find_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        UsageError: there is none; near misses are named.
    """
    found = GPUS.get(name.strip().lower())
    if found is None:
        import difflib

        near = difflib.get_close_matches(name.lower(), GPUS, n=3, cutoff=0.4)
        hint = f": did you mean {', '.join(near)}?" if near else ":"
        raise UsageError(f"--gpu {name!r} is not in the table{hint} `--gpu list` names all")
    return found
