"""Operators that are only made of others: inference mode hands them to a dispatch mode whole, others their parts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch._C import DispatchKey
from torch._ops import OpOverload

_COMPOSITE, _CPU, _AUTOCAST = "CompositeImplicitAutograd", "CPU", "AutocastCPU"
_HERE = "cpu"


class Composites:
    """Tells which operators are made of others, and lets autocast see the parts as it would for real.

    A dispatch mode is called with autocast's dispatch key excluded: what it calls in its turn would not be cast.
    Whether a program has autocast on is asked of what it set, for the key does not tell any more.
    """

    def __init__(self) -> None:
        self._known: dict[OpOverload, bool] = {}
        self._autocast_is_on = False
        self._is_cast = False
        """Whether the operator that is being taken apart was cast as a whole, after which autocast is off."""

    def is_composite(self, func: OpOverload) -> bool:
        """Whether an operator is only made of others."""
        known = self._known.get(func)
        if known is None:
            has = torch._C._dispatch_has_kernel_for_dispatch_key
            known = has(func.name(), _COMPOSITE) and not has(func.name(), _CPU)
            self._known[func] = known
        return known

    @contextmanager
    def taken_apart(self, func: OpOverload) -> Iterator[None]:
        """Until left, the parts of an operator are called."""
        before = self._is_cast
        self._is_cast = before or _has_autocast(func)
        try:
            with nullcontext() if self._is_cast or not self._autocast_is_on else _autocast_seen():
                yield
        finally:
            self._is_cast = before

    @contextmanager
    def autocast_watched(self) -> Iterator[None]:
        """Until left, take note of when autocast is switched on and off."""
        self._autocast_is_on = torch.is_autocast_enabled(_HERE)
        switch = torch.set_autocast_enabled

        def switch_noted(*args: Any) -> None:
            switch(*args)
            self._autocast_is_on = torch.is_autocast_enabled(_HERE)

        with mock.patch.object(torch, "set_autocast_enabled", switch_noted):
            yield


def _has_autocast(func: OpOverload) -> bool:
    """Whether autocast has a kernel for an operator, which casts its arguments and is off within."""
    name = func.name()
    if not torch._C._dispatch_has_kernel_for_dispatch_key(name, _AUTOCAST):
        return False
    return not torch._C._dispatch_kernel_for_dispatch_key_is_fallthrough(name, DispatchKey.AutocastCPU)


def _autocast_seen() -> Any:
    """Until left, operators pass autocast, whose key is excluded within a dispatch mode."""
    included = torch._C._dispatch_tls_local_include_set()
    excluded = torch._C._dispatch_tls_local_exclude_set().remove(DispatchKey.AutocastCPU)
    return torch._C._ForceDispatchKeyGuard(included, excluded)
