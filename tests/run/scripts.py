"""Scripts as people write them, from public recipes, and a way to run one under vramscope in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINING = """
import os, signal, sys, time, torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters())
def train(steps):
    for step in range(steps):
        inputs, labels = torch.randn(32, 64), torch.randint(10, (32,))
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step, loss
"""


@dataclass(frozen=True)
class Finished:
    """A script that ran under vramscope."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def document(self) -> dict[str, Any]:
        """Its figures; only where there are any."""
        return json.loads((self.folder / "out" / "run.json").read_text(encoding="utf-8"))

    @property
    def recording(self) -> Path:
        """The recording, sealed or not."""
        return self.folder / "out" / "run.vram"


def command(*options: str, script: Path, arguments: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "-m", "vramscope", "run", "-o", "out", *options, script.name, *arguments]


def run(folder: Path, text: str, *options: str, arguments: tuple[str, ...] = (), stdin: str = "") -> Finished:
    """The finished run of a script."""
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    finished = subprocess.run(
        command(*options, script=script, arguments=arguments),
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr, folder)


def plainly(folder: Path, text: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same script without vramscope."""
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, script.name, *arguments],
        cwd=folder,
        env=dict(os.environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def start(folder: Path, text: str, *options: str) -> "subprocess.Popen[str]":
    """A script under vramscope that is still running."""
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    return subprocess.Popen(
        command("-q", *options, script=script),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def require_exact(document: dict[str, Any], *names: str) -> None:
    """The sums that every pass must keep to the byte."""
    assert list(document["passes"]) == list(names)
    for found in document["passes"].values():
        peak, allocator = found["peak"], found["allocator"]
        assert sum(peak["by_category"].values()) == peak["bytes"] == allocator["peak_bytes"]
        assert allocator["max_disagreement_bytes"] == 0


INTERRUPT = signal.SIGINT
