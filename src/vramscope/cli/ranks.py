"""Under torchrun: which rank this is, and the recordings of the others."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from vramscope.errors import VramscopeError
from vramscope.ledger.run import RunSummary, summarize_run
from vramscope.recording.file import iterate_windows

_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Rank:
    """This process's place in a distributed job, as torchrun tells it."""

    number: int
    on_this_machine: int
    first_here: int

    @classmethod
    def of_environment(cls) -> "Rank | None":
        """The rank of this process, None outside a distributed job."""
        words = [os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
        if not all(word.isdecimal() for word in words):
            return None
        number, local, size = map(int, words)
        return cls(number, size, number - local)

    @property
    def reports(self) -> bool:
        """Whether this rank prints for all on this machine."""
        return self.number == self.first_here

    @property
    def here(self) -> range:
        """The ranks on this machine."""
        return range(self.first_here, self.first_here + self.on_this_machine)

    def name(self, stem: str) -> str:
        """A file name of this rank's own."""
        return f"{stem}.rank{self.number}"

    def gather(self, own: Path, summary: RunSummary) -> dict[int, RunSummary]:
        """The runs of all ranks on this machine, as far as they end soon after this one; unsealed ones as they are."""
        runs = {self.number: summary}
        until = time.monotonic() + _PATIENCE_SECONDS
        for number in self.here:
            path = own.with_name(own.name.replace(f".rank{self.number}.", f".rank{number}."))
            while number not in runs and not path.exists() and time.monotonic() < until:
                time.sleep(_PAUSE_SECONDS)
            try:
                runs.setdefault(number, summarize_run(iterate_windows(path)))
            except VramscopeError:  # it was killed before its first step ended: the table lacks it, and says so
                continue
        return runs
