"""The commands and outputs that the documentation shows, run again: pages are checked with it, and rewritten.

A page is a user's session in one empty folder, from top to bottom:

- a fenced block in the language ``console`` holds commands (``$ …``) and, below each, all that it prints;
- a fenced block after a comment ``<!-- file: NAME -->`` is a file of that name;
- ``<!-- varies -->`` before a block says that its figures differ between machines: words and layout are compared,
  digits are not;
- ``<!-- not run: REASON -->`` before a block says that it cannot be run here, and why.

``python -m tests.docs.console PAGE…`` writes what the commands print into the pages.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import unmeasured

BLOCK = re.compile(
    r"(?:^<!-- (?P<note>file|varies|not run)(?:: (?P<value>[^\n]*?))? -->\n+)?"
    r"^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PROCESSOR = re.compile(r"^.* · torch [^ ]+", re.MULTILINE)
FIGURES = re.compile(r"[-+]?\d[\d,.]*")
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: what stands in it, and where (offsets of its body in the page)."""

    note: str
    value: str
    language: str
    body: str
    start: int
    end: int

    @property
    def is_run(self) -> bool:
        """Whether its commands are run."""
        return self.language == "console" and self.note != "not run"


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(found["note"] or "", found["value"] or "", found["language"], found["body"], *found.span("body"))
        for found in BLOCK.finditer(page)
    ]


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a console block with what the page says that it prints."""
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command += f"\n{more}"
        yield command, output


def printed_by(command: str, folder: Path, previous_code: int = 0) -> tuple[str, int]:
    """What a shell shows when it runs the command, both streams, and its exit code; ``$?`` is the code before it."""
    tools = Path(sys.executable).parent
    finished = subprocess.run(
        ["bash", "-c", f"(exit {previous_code})\n{command}"],
        cwd=folder,
        env={**_surroundings(), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    lines = finished.stdout.replace(str(folder), "…").splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines), finished.returncode


def _surroundings() -> dict[str, str]:
    """The environment of a user: not that of a service that runs tests, nor of one that measures their coverage."""
    return {name: value for name, value in unmeasured().items() if name != "CI"}


def comparable(block: Block, output: str) -> str:
    """An output as it is compared: without the processor's name, and without figures where the block says they vary."""
    output = PROCESSOR.sub("torch", output)
    if block.note != "varies":
        return output
    return "\n".join(re.sub(r"[ ─█▏▎▍▌▋▊▉]+", " ", FIGURES.sub("#", line)).strip() for line in output.splitlines())


def run_page(page: str, folder: Path) -> Iterator[tuple[Block, list[tuple[str, str, str]]]]:
    """Go through a page; for each console block its commands with what is shown and what was printed."""
    code = 0
    for block in blocks_of(page):
        if block.note == "file":
            target = folder / block.value
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body, encoding="utf-8")
        elif block.is_run:
            runs = []
            for command, shown in commands_of(block):
                printed, code = printed_by(command, folder, code)
                runs.append((command, shown, printed))
            yield block, runs


def rewritten(page: str) -> str:
    """The page with the outputs that its commands print now."""
    parts, end = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for block, runs in run_page(page, Path(folder)):
            body = "".join(f"$ {command}\n{printed}" for command, _, printed in runs)
            parts += [page[end : block.start], body]
            end = block.end
    return "".join([*parts, page[end:]])


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{name}: outputs written")


if __name__ == "__main__":
    main()
