"""Comparisons to render: small ones written by hand, whose figures can be derived, and long or hostile ones."""

from dataclasses import replace

import numpy as np

from helpers import BASE_TOTAL, FLOAT32, Script
from vramscope.ledger.comparison import Comparison, compare_recordings
from vramscope.recording.recording import (
    NO_SCOPE,
    Counters,
    Device,
    Events,
    MarkKind,
    Marks,
    PhaseName,
    Recording,
    ScopeKind,
    Scopes,
    Seeds,
    Source,
)

WEIGHT = 400 * FLOAT32
ACTIVATION = 120 * FLOAT32
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "<b>bold</b>&lt;<a href='javascript:document.title=1'>a</a>",
    "new\nline\ttab\r\x00\x1b[31mred",
    "\u202egnp.elif\u202c\u2066\u200b",
    '=HYPERLINK("http://example.invalid")|`code`|*star* [link](http://example.invalid) @somebody',
    "\ud800 lone",
    "%{x}${y}__proto__",
)


def training(activation: int = ACTIVATION, names: tuple[str, ...] = ("first", "second")) -> Recording:
    """Two modules, a cold and a steady step: each forward keeps one activation per module until the backward pass.

    In each step backward makes a gradient for each weight, whose lives end with the step.
    """
    script = Script()
    script.modules = [["", "Model"], *([name, "Linear"] for name in names)]
    with script.phase(PhaseName.BUILD):
        for number, name in enumerate(names):
            script.alloc(10_000 * (number + 1), WEIGHT)
            script.mark(MarkKind.PARAMETER, f"{name}.weight", 10_000 * (number + 1), f"{name}.weight", WEIGHT)
    for index in range(2):
        _step(script, index, names, activation)
    workload = {"name": "sample", "batch": 4, "dtype": "float32", "device": "cpu", "pass": "training"}
    recording = script.recording()
    return replace(recording, workload={**recording.workload, **workload}, environment={"torch": "2.13"})


def _step(script: Script, index: int, names: tuple[str, ...], activation: int) -> None:
    with script.step(index):
        with script.phase(PhaseName.FORWARD), script.module(""):
            for number, name in enumerate(names):
                with script.module(name), script.operator("aten::linear", sequence=10 * index + number):
                    script.alloc(500_000 + 10_000 * number, activation)
        with script.phase(PhaseName.BACKWARD):
            for number, name in reversed(list(enumerate(names))):
                with script.node("LinearBackward0", sequence=10 * index + number), script.operator("aten::mm"):
                    script.alloc(900_000 + 10_000 * number, WEIGHT)
                script.mark(MarkKind.GRADIENT, f"{name}.weight", 900_000 + 10_000 * number, f"{name}.weight", WEIGHT)
                with script.node("LinearBackward0", sequence=10 * index + number):
                    script.free(500_000 + 10_000 * number, activation)
        for number in range(len(names)):
            script.free(900_000 + 10_000 * number, WEIGHT)


def on_gpu(recording: Recording, segment: int = 4096) -> Recording:
    """The recording as of a GPU whose allocator reserves segments of one size, and gives none back."""
    events, device = recording.events, recording.devices[0]
    highest = np.maximum.accumulate(events.total - device.start_total)
    reserved = -(-highest // segment) * segment
    named = replace(device, name="cuda:0")
    return replace(recording, events=replace(events, reserved=reserved), devices=(named, *recording.devices[1:]))


def inference(activation: int = ACTIVATION, names: tuple[str, ...] = ("first", "second")) -> Recording:
    """The same two modules, forward only; each activation is gone before the next one."""
    script = Script()
    script.modules = [["", "Model"], *([name, "Linear"] for name in names)]
    with script.phase(PhaseName.BUILD):
        for number, name in enumerate(names):
            script.alloc(10_000 * (number + 1), WEIGHT)
            script.mark(MarkKind.PARAMETER, f"{name}.weight", 10_000 * (number + 1), f"{name}.weight", WEIGHT)
    for index in range(2):
        with script.step(index), script.phase(PhaseName.FORWARD), script.module(""):
            for name in names:
                with script.module(name), script.operator("aten::linear"):
                    script.alloc(500_000, activation)
                script.free(500_000, activation)
    workload = {"name": "sample", "batch": 4, "dtype": "float32", "device": "cpu", "pass": "inference"}
    recording = script.recording()
    return replace(recording, workload={**recording.workload, **workload}, environment={"torch": "2.13"})


def comparison(activation: int = ACTIVATION, names: tuple[str, ...] = ("first", "second")) -> Comparison:
    """Both passes."""
    return compare_recordings({"inference": inference(activation, names), "training": training(activation, names)})


def hostile() -> Comparison:
    """Both passes of a model whose modules have names that would like to be more than names."""
    return comparison(names=HOSTILE)


def long_recording(events: int = 100_000) -> Recording:
    """A recording of so many events: a sawtooth of a thousand blocks of growing sizes, with one spike in the middle."""
    half = events // 2
    sizes = np.where(np.arange(half) == half // 2, 1 << 30, 1 << 10) + np.arange(half) % 1000
    block = np.repeat(np.arange(half), 2)
    signed = np.where(np.arange(2 * half) % 2 == 0, sizes[block], -sizes[block])
    # a hundred blocks alive at any time: the free of block n comes 200 events later
    order = np.argsort(np.arange(2 * half) + np.where(signed < 0, 199, 0), kind="stable")
    signed, block = signed[order], block[order]
    time = np.arange(2 * half, dtype=np.int64) * 1000
    zeros = np.zeros(2 * half, dtype=np.int64)
    total = BASE_TOTAL + np.cumsum(signed)
    kinds = (ScopeKind.STEP, ScopeKind.PHASE, ScopeKind.MODULE, ScopeKind.OPERATOR)
    end = int(time[-1])
    rows = [(NO_SCOPE if n < 2 else n - 1, kind, n, 0, end, 1, -1, 0) for n, kind in enumerate(kinds)]
    return Recording(
        source=Source.PROFILER,
        scopes=Scopes.from_rows(rows),
        events=Events(time, (block % 4096 + 1) * (1 << 31), signed, signed, zeros, zeros + 3, total, total),
        marks=Marks.from_rows([]),
        counters=Counters.from_rows([]),
        seeds=Seeds.from_rows([]),
        strings=("step", "forward", "layer", "aten::linear"),
        devices=(Device("cpu", "a CPU", BASE_TOTAL, int(total[-1])),),
        workload={"name": "long", "pass": "training", "modules": [["", "Model"], ["layer", "Linear"]]},
    )
