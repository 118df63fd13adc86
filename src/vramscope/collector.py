"""Python's garbage collector, spared where it would only find what stays: torch alone is half a million objects."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing while a block runs that makes many objects and no cycles to speak of."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Load modules, in a process of our own, without a collection; all that is there counts as old afterwards."""
    with paused():
        yield
        gc.freeze()
        gc.unfreeze()  # moves all to the oldest generation, and looks at none


def leave() -> None:
    """End a process of our own without a last look at everything in it: all that it has goes back to the system."""
    gc.freeze()
