"""The devices that can be recorded, by the names that their allocators' events carry."""

import torch

from vramscope.errors import UnsupportedError


def recorded_device(name: str | torch.device) -> torch.device:
    """The device that ``name`` means here: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UnsupportedError: a GPU that is not there, or a device whose allocator reports no events.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnsupportedError(f"--device {name}: no such device; give auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        return _gpu(device)
    raise UnsupportedError(
        f"--device {name}: its allocator reports no events, so nothing can be recorded; use cpu or cuda"
    )


def _gpu(device: torch.device) -> torch.device:
    if torch.version.hip is not None:
        raise UnsupportedError(f"--device {device}: ROCm has not been verified, so nothing is recorded there; use cpu")
    if not torch.cuda.is_available():
        raise UnsupportedError(
            f"--device {device}: this torch ({torch.__version__}) sees no CUDA GPU; "
            "use --device cpu, or run where there is one"
        )
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise UnsupportedError(f"--device {device}: there are {torch.cuda.device_count()} GPUs here, numbered from 0")
    return torch.device("cuda", index)


def allocated_bytes(device: torch.device) -> int:
    """The CUDA allocator's running total now, as its events carry it."""
    return int(torch.cuda.memory_stats(device).get("allocated_bytes.all.current", 0))
