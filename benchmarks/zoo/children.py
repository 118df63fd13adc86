"""Each pass in a child process of its own, forked once the libraries are there: importing them takes most of the time.

Some libraries cache tensors between passes, which would make one pass depend on another.
"""

import importlib
import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.architecture import Architecture
from benchmarks.zoo.check import Check, check, record
from vramscope.errors import VramscopeError
from vramscope.workloads.passes import PassName

_LIMIT_SECONDS = 300


def import_libraries(architecture: Architecture) -> None:
    """Import here, once, what every child would import for itself; nothing may run yet, or a fork would not be safe."""
    importlib.import_module("torch._dynamo")  # which every first optimizer imports
    importlib.import_module(architecture.library)
    if architecture.config:
        getattr(importlib.import_module(architecture.library), architecture.model)


def check_pass(architecture: Architecture, name: PassName) -> Check | str:
    """The check of one pass, or why it could not be run, in one line."""
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        _run(theirs, lambda: _check(architecture, name))
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(_LIMIT_SECONDS) else f"took more than {_LIMIT_SECONDS} s"
    except EOFError:
        answer = "the process died"
    finally:
        ours.close()
        _end(child)
    return Check(**answer) if isinstance(answer, dict) else str(answer)


def _check(architecture: Architecture, name: PassName) -> dict[str, Any]:
    torch.set_num_threads(1)  # the pool of another process's threads is not there after a fork
    with tempfile.TemporaryDirectory() as folder:
        target = architecture.place(Path(folder))
        return asdict(check(*record(target, architecture.options(), name)))


def _run(pipe: Connection, work: Callable[[], Any]) -> None:
    """Send what the work gives, or what it raises, and leave without the parent's clean-up."""
    try:
        warnings.simplefilter("ignore")
        pipe.send(work())
    except VramscopeError as error:
        pipe.send(str(error))
    except BaseException as error:  # noqa: BLE001 - a child tells its parent everything
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
    finally:
        pipe.close()
        os._exit(0)


def _end(child: int) -> None:
    """Wait for a child that has answered; end one that has not."""
    if os.waitpid(child, os.WNOHANG) == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
