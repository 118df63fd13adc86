"""Networks that are a stack of equal layers, as deep as an experiment asks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StackSizes:
    """Of the networks: depths in layers, width in features, batch in samples; and the seeds of their weights."""

    depths: tuple[int, ...]
    width: int
    batch: int
    seeds: tuple[int, ...]
