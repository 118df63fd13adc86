"""``scripts/benchmark``: vramscope beside its peers; adds to peers.json and writes peers.md and pictures from it.

Sections and models can be measured one at a time: what is in the file already stays.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.accuracy import measure_accuracy
from benchmarks.peers.growth import grow_batch, grow_events, grow_layers
from benchmarks.peers.models import KERNEL, LITTLE, MODELS, Model
from benchmarks.peers.overhead import measure_overhead
from benchmarks.peers.picture import draw_growth
from benchmarks.peers.results import add, tables
from benchmarks.peers.tools import TOOLS

OVERHEAD, ACCURACY, GROWTH = "overhead", "accuracy", "growth"
CURVES = {"events": grow_events, "layers": grow_layers, "batch": grow_batch}
_COUNTS = {
    "events": [10**power for power in range(3, 7)],
    "layers": [2, 5, 10, 20, 50, 100, 200],
    "batch": [1, 4, 16, 64, 256, 1024],
}
_QUICK_COUNTS = {"events": [1_000, 3_000, 10_000], "layers": [2, 4, 8], "batch": [1, 4, 16]}


def main() -> int:
    """Measure what was asked for, and print the tables."""
    options = _options()
    file = options.out / "peers.json"
    content: dict[str, Any] = {}
    for section, name in _plan(options):
        print(f"{section}: {name}", file=sys.stderr, flush=True)
        content = add(file, section, name, _measure(section, name, options))
        if section == GROWTH:
            draw_growth(options.out / f"growth-{name}.png", content["sections"][GROWTH][name]["found"])
        (options.out / "peers.md").write_text(tables(content), encoding="utf-8")
    print(tables(content), end="")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--only", action="append", choices=(OVERHEAD, ACCURACY, GROWTH), help="a section; repeatable")
    parser.add_argument("--model", action="append", choices=(*MODELS, KERNEL.name), help="a model; repeatable")
    parser.add_argument("--tool", action="append", choices=tuple(TOOLS), help="a tool; repeatable")
    parser.add_argument("--curve", action="append", choices=tuple(CURVES), help="a growth curve; repeatable")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each tool")
    parser.add_argument("--quick", action="store_true", help="a model for smoke tests, few rounds, short curves")
    parser.add_argument("--out", type=Path, help="folder; results/benchmarks, or out/benchmark with --quick")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.out = options.out or Path("out/benchmark" if options.quick else "results/benchmarks")
    return options


def _plan(options: argparse.Namespace) -> list[tuple[str, str]]:
    """What to measure: sections with the models or curves in each."""
    models = [LITTLE.name] if options.quick else options.model or list(MODELS)
    names = {
        OVERHEAD: [name for name in models if name != KERNEL.name],
        ACCURACY: models if options.model or options.quick else [*models, KERNEL.name],
        GROWTH: options.curve or list(CURVES),
    }
    return [(section, name) for section in options.only or names for name in names[section]]


def _measure(section: str, name: str, options: argparse.Namespace) -> Any:
    tools: Sequence[str] = options.tool or list(TOOLS)
    if section == GROWTH:
        counts = (_QUICK_COUNTS if options.quick else _COUNTS)[name]
        return [curve.to_json() for curve in CURVES[name](counts)]
    model = _model(name)
    if section == OVERHEAD:
        return measure_overhead(model, tools, 1 if options.quick else options.rounds)
    return measure_accuracy(model, tools)


def _model(name: str) -> Model:
    return {**MODELS, KERNEL.name: KERNEL, LITTLE.name: LITTLE}[name]


if __name__ == "__main__":
    sys.exit(main())
