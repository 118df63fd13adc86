"""vramscope: where the memory of a PyTorch step goes, to the byte.

Only names live here; torch is loaded when one that needs it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vramscope.ledger.categories import Category
    from vramscope.ledger.ledger import Ledger
    from vramscope.profiling import Profile, profile
    from vramscope.recording.file import read_recording
    from vramscope.recording.recording import Recording
    from vramscope.workloads.workload import Workload

__version__ = "0.1.0"

__all__ = ["Category", "Ledger", "Profile", "Recording", "Workload", "__version__", "profile", "read_recording"]

_HOMES = {
    "Category": "vramscope.ledger.categories",
    "Ledger": "vramscope.ledger.ledger",
    "Profile": "vramscope.profiling",
    "Recording": "vramscope.recording.recording",
    "Workload": "vramscope.workloads.workload",
    "profile": "vramscope.profiling",
    "read_recording": "vramscope.recording.file",
}


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vramscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
