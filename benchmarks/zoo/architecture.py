"""The catalogue: which architectures there are, and how vramscope is asked to profile each."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.workload import WorkloadOptions

CATALOGUE = Path(__file__).with_name("catalogue.toml")


class Kind(StrEnum):
    """What an architecture is an example of."""

    CNN = "convolutional"
    ENCODER = "transformer encoder"
    DECODER = "transformer decoder"
    ENCODER_DECODER = "encoder-decoder"
    STATE_SPACE = "state-space and recurrent"
    EXPERTS = "mixture of experts"
    VISION = "vision transformer"
    DETECTION = "detection and segmentation"
    AUDIO = "audio"
    VISION_LANGUAGE = "vision and language"
    DIFFUSION = "diffusion"
    OTHER = "other"


@dataclass(frozen=True)
class Architecture:
    """A model that vramscope profiles through one of its own targets.

    Attributes:
        name: as its authors call it.
        kind: what it is an example of.
        library: the package it comes from.
        target: what a user would type, or empty for a configuration of transformers.
        config: the name of the configuration's class.
        model: the name of the model's class.
        values: what the configuration is made from.
        inputs: tensors to make, as ``--input`` takes them.
        batch: samples in one step.
        seq: tokens per sample, where it has tokens.
        needs: further packages without which it cannot be built.
        note: what explains its misses, where it has any.
    """

    name: str
    kind: Kind
    library: str = "transformers"
    target: str = ""
    config: str = ""
    model: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    batch: int | None = None
    seq: int | None = None
    needs: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a row of the catalogue that names no model, or two."""
        if bool(self.target) == bool(self.config and self.model):
            raise ValueError(f"{self.name}: give either a target, or config and model")

    @property
    def is_installed(self) -> bool:
        """Whether what it comes from is there."""
        return all(find_spec(package) is not None for package in (self.library, *self.needs))

    @property
    def source(self) -> str:
        """What a reader can look up: the target, or the model's class."""
        return self.target or self.model

    def options(self) -> WorkloadOptions:
        """How it is profiled: what is not said here is vramscope's default."""
        return WorkloadOptions(batch=self.batch, seq=self.seq, inputs=tuple(map(InputSpec.parse, self.inputs)))

    def place(self, folder: Path) -> str:
        """The target to resolve; a configuration is written into ``folder`` first, as ``hf:`` wants it."""
        if self.target:
            return self.target
        import transformers

        config = getattr(transformers, self.config)(**self.values, architectures=[self.model])
        config.save_pretrained(folder)
        return f"hf:{folder}"


def catalogue() -> tuple[Architecture, ...]:
    """Every architecture, in the order of the catalogue.

    Raises:
        ValueError: a row that names no model, an unknown kind or a name given twice.
    """
    content = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    rows = tuple(_read(row, content["bases"]) for row in content["architecture"])
    names = [row.name for row in rows]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise ValueError(f"given twice: {', '.join(sorted(doubled))}")
    return rows


def _read(row: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]) -> Architecture:
    values = {**bases.get(row.get("base", ""), {}), **row.get("values", {})}
    fields = {name: value for name, value in row.items() if name != "base"}
    lists = {name: tuple(row.get(name, ())) for name in ("inputs", "needs")}
    return Architecture(**{**fields, **lists, "kind": Kind(row["kind"]), "values": values})
