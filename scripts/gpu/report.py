"""What the check found: written after every section, so that nothing is lost when a later one fails."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LARGEST_FILE = 16 << 20
LAST_WORDS_SECONDS = 10.0
"""What a command that is interrupted has for saying how far it came."""
ROOT_OF_TESTS = Path(__file__).resolve().parents[2] / "tests"


class OverTime(Exception):
    """A section's time is over; ``printed`` is what a command that it ended had to say."""

    def __init__(self, message: str, printed: str = "") -> None:
        super().__init__(message)
        self.printed = printed


Section = Callable[["Report", dict[str, Any]], None]


class Report:
    """Runs sections and collects what they find in ``results.json``."""

    def __init__(self, folder: Path, device: str, deadline: float) -> None:
        self.folder, self.device, self._deadline = folder, device, deadline
        self._section_ends = deadline
        self._results: dict[str, Any] = {"device": device, "failed": [], "seconds": {}, "sections": {}}

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def sections(self) -> dict[str, Any]:
        """What the sections before have found."""
        return self._results["sections"]

    def run_all(self, sections: Mapping[str, tuple[Section, float]]) -> None:
        """Run sections in order; what one leaves of its share of the time is for those after it.

        Args:
            sections: each with the seconds it may need, which give its share.
        """
        needed = sum(seconds for _, seconds in sections.values())
        for name, (section, seconds) in sections.items():
            left = max(self._deadline - time.monotonic(), 0)
            self.run(name, section, left * seconds / needed)
            needed -= seconds

    def run(self, name: str, section: Section, seconds: float) -> None:
        """Run a section for at most so long; it fills in the dict it is given as it goes."""
        begin = time.monotonic()
        self._section_ends = min(begin + seconds, self._deadline)
        found: dict[str, Any] = {}
        self.sections[name] = found
        print(f"{name} (at most {max(self._section_ends - begin, 0):.0f} s) on {self.device} …", flush=True)
        try:
            section(self, found)
            failed = bool(found.get("failures"))
        except Exception as error:  # noqa: BLE001 - one section's failure must not lose the others
            found["error"] = "".join(traceback.format_exception(error))[-2000:]
            found["printed"] = _printed(error)
            failed = True
        took = time.monotonic() - begin
        self._results["seconds"][name] = round(took, 1)
        if failed:
            self._results["failed"].append(name)
        print(f"  {'FAILED' if failed else 'fine'} after {took:.1f} s", flush=True)
        if failed:
            print("  " + json.dumps(found.get("failures") or found.get("error"), default=str)[-1500:], flush=True)
        self._write()

    def left(self) -> float:
        """Seconds that the section has left.

        Raises:
            OverTime: none.
        """
        seconds = self._section_ends - time.monotonic()
        if seconds <= 0:
            raise OverTime("the section's time is over: what stands here was finished before")
        return seconds

    def has_time(self) -> bool:
        """Whether the section may go on."""
        return time.monotonic() < self._section_ends

    def command(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a Python command line until the section's end.

        Raises:
            OverTime: it ran longer; it was interrupted, and killed where that did not end it soon.
        """
        with subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=self.left())
            except subprocess.TimeoutExpired as error:
                raise OverTime(f"{error}: what it printed until then is kept", _last_words(process)) from None
            except BaseException:
                _kill(process)
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def document(self, *arguments: str) -> dict[str, Any]:
        """The JSON of a vramscope command.

        Raises:
            RuntimeError: it failed.
        """
        finished = self.command("-m", "vramscope", *arguments, "--json", "-", "-q")
        if finished.returncode:
            raise RuntimeError(f"vramscope {' '.join(arguments)}: {finished.stderr.strip()[-600:]}")
        return json.loads(finished.stdout)

    def in_parallel(self, work: Callable[[str], Any], names: list[str], workers: int) -> dict[str, Any]:
        """The work for every name, some at once; an error stands in the place of a result."""

        def guarded(name: str) -> Any:
            try:
                return work(name)
            except Exception as error:  # noqa: BLE001 - one workload's failure must not lose the others
                return {"error": f"{type(error).__name__}: {error}"[-600:], "printed": _printed(error)}

        with ThreadPoolExecutor(workers if self.on_gpu else 1) as pool:
            return dict(zip(names, pool.map(guarded, names), strict=True))

    def keep(self, path: Path) -> None:
        """Keep a file beside the results, unless it is too large."""
        if path.stat().st_size <= LARGEST_FILE:
            (self.folder / path.name).write_bytes(path.read_bytes())

    def close(self) -> int:
        """The exit code, and a last line."""
        failed = self._results["failed"]
        verdict = f"failed: {', '.join(failed)}" if failed else "all sections passed"
        print(f"{verdict} ({self.device}); see {self.folder}")
        return 1 if failed else 0

    def _write(self) -> None:
        text = json.dumps(self._results, indent=1, default=str).replace(f"{ROOT_OF_TESTS.parent}/", "")
        (self.folder / "results.json").write_text(text + "\n", encoding="utf-8")


def _last_words(process: "subprocess.Popen[str]") -> str:
    """End a command, its children too; what it printed, and says when interrupted, as pytest does of failures."""
    process.send_signal(signal.SIGINT)
    for seconds in (LAST_WORDS_SECONDS, 1.0):
        try:
            return "".join(process.communicate(timeout=seconds))
        except subprocess.TimeoutExpired as error:  # the second time by a process of its own that holds its output open
            words = (error.output or b"") + (error.stderr or b"")
            _kill(process)
    return words.decode(errors="replace")


def _printed(error: Exception) -> str:
    """The last that an interrupted command had to say."""
    return error.printed[-2000:] if isinstance(error, OverTime) else ""


def _kill(process: "subprocess.Popen[str]") -> None:
    """Its children too, or they would hold the GPU."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
