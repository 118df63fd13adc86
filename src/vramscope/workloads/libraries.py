"""Optional model libraries, imported only when a target needs them."""

import importlib
import importlib.util
from types import ModuleType

from vramscope.errors import TargetError
from vramscope.workloads.messages import summarize_error


def require_library(target: str, library: str, install: str) -> None:
    """Refuse a target whose library is not there, without importing it.

    Raises:
        TargetError: ``library`` is not installed; the message says how to install it.
    """
    if importlib.util.find_spec(library) is None:
        raise TargetError(f"{target}: {library} is not installed: {install}")


def import_library(target: str, library: str) -> ModuleType:
    """The library, imported.

    Raises:
        TargetError: it is installed, but its import fails, as when a library that it needs is missing.
    """
    try:
        return importlib.import_module(library)
    except Exception as error:
        raise TargetError(
            f"{target}: {library} is installed but cannot be imported: {summarize_error(error)}; "
            f"make `python -c 'import {library}'` work first"
        ) from error
