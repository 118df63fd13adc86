"""Model inputs described as text, ``NAME=DTYPE[SHAPE]``, and made as seeded tensors."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vramscope.errors import UsageError
from vramscope.workloads.messages import suggestion

DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
_SPEC = re.compile(r"\s*(\w+)\s*=\s*(\w+)\s*\[([^\]]*)\]\s*(?:<\s*(\d+)\s*)?", re.ASCII)
_HOW = "write NAME=DTYPE[SHAPE], such as x=float32[8,3,224,224] or ids=int64[8,128]<50257"


@dataclass(frozen=True)
class InputSpec:
    """One tensor to make: its name in ``forward``, dtype and shape, and for integers an exclusive upper bound.

    Integers are drawn from [0, bound), where a missing bound means 2, small enough to index anything; floating and
    complex numbers from the standard normal distribution.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bound: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no tensor can be made from."""
        if self.dtype not in DTYPES:
            hint = suggestion(self.dtype, DTYPES) or f"; known are {', '.join(DTYPES)}"
            raise UsageError(f"input {self.name!r}: {self.dtype!r} is no dtype{hint}")
        if any(size < 1 for size in self.shape):
            raise UsageError(f"input {self.name!r}: every size must be at least 1, not {list(self.shape)}")
        if self.bound is not None:
            self._check_bound(self.bound)

    def _check_bound(self, bound: int) -> None:
        dtype = DTYPES[self.dtype]
        if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
            raise UsageError(f"input {self.name!r}: an upper bound (<{bound}) is for integers, not for {self.dtype}")
        most = torch.iinfo(dtype).max
        if not 1 <= bound <= most:
            raise UsageError(f"input {self.name!r}: the upper bound {bound} is not between 1 and {most}")

    @classmethod
    def parse(cls, text: str) -> "InputSpec":
        """The spec that ``text`` writes down; ``str()`` gives such a text back.

        Raises:
            UsageError: the text is not of the form ``NAME=DTYPE[SHAPE]``, or dtype, shape or bound make no sense.
        """
        match = _SPEC.fullmatch(text)
        if match is None:
            raise UsageError(f"input {text!r} is not understood: {_HOW}")
        name, dtype, sizes, bound = match.groups()
        return cls(name, dtype, _parse_shape(text, sizes), None if bound is None else int(bound))

    def __str__(self) -> str:
        """The text that ``parse`` reads."""
        shape = ",".join(map(str, self.shape))
        return f"{self.name}={self.dtype}[{shape}]" + ("" if self.bound is None else f"<{self.bound}")

    def make(self, generator: torch.Generator, device: torch.device, floating: torch.dtype | None = None) -> Tensor:
        """A tensor of this shape on ``device``; ``floating``, where given, replaces a floating-point dtype.

        Numbers are drawn on the CPU, so that every device gets the same ones.
        """
        dtype = DTYPES[self.dtype]
        if dtype.is_floating_point or dtype.is_complex:
            drawn = floating if floating is not None and dtype.is_floating_point else dtype
            return torch.randn(self.shape, generator=generator, dtype=drawn).to(device)
        bound = 2 if self.bound is None else self.bound
        return torch.randint(bound, self.shape, generator=generator, dtype=dtype).to(device)


def _parse_shape(text: str, sizes: str) -> tuple[int, ...]:
    if not sizes.strip():
        return ()
    parts = [part.strip() for part in sizes.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"input {text!r}: the shape must be whole numbers separated by commas; {_HOW}")
    return tuple(int(part) for part in parts)


def check_names(model: nn.Module, specs: Sequence[InputSpec]) -> None:
    """Refuse inputs that ``model.forward`` does not take, and a call that would lack one it needs.

    Raises:
        UsageError: an unknown name, a name given twice, or a required parameter without an input.
    """
    names = [spec.name for spec in specs]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise UsageError(f"input {doubled!r} is given twice")
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = [name for name, parameter in parameters.items() if _named(parameter)]
    for name in names:
        # a near miss is a slip even where forward takes **kwargs, which would swallow it
        if name not in known and (not takes_any or suggestion(name, known)):
            raise UsageError(_unknown_input(model, name, known))
    missing = [name for name in known if name not in names and parameters[name].default is inspect.Parameter.empty]
    if missing:
        raise UsageError(f"{type(model).__name__}.forward also needs {', '.join(missing)}: give --input for each")


def _named(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _unknown_input(model: nn.Module, name: str, known: list[str]) -> str:
    hint = suggestion(name, known) or f"; it takes {', '.join(known) or 'no inputs'}"
    return f"{type(model).__name__}.forward takes no input named {name!r}{hint}"


def draw(
    specs: Sequence[InputSpec], seed: int, device: torch.device, floating: torch.dtype | None = None
) -> dict[str, Any]:
    """The tensors of ``specs`` by name, drawn in order from one generator seeded with ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: spec.make(generator, device, floating) for spec in specs}
