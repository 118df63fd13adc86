"""``scripts/zoo``: profile the zoo, add to results/zoo.json and write results/zoo.md from it."""

import argparse
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the zoo is built from configurations alone

from benchmarks.zoo.architecture import Architecture, catalogue
from benchmarks.zoo.children import check_pass, import_libraries
from benchmarks.zoo.results import Row, add_row, write_table
from vramscope.workloads.passes import PassName


def main() -> int:
    """Profile what was asked for; the exit code is 1 where a pass failed or was not clean and nothing explains it."""
    options = _options()
    logging.disable(logging.WARNING)
    chosen = [model for model in catalogue() if _is_wanted(model, options)]
    for model in chosen:
        if not model.is_installed:
            print(f"left out {model.name}: {' and '.join((model.library, *model.needs))} needed", file=sys.stderr)
    rows = [_profile(model, options.out) for model in chosen if model.is_installed]
    failed = [row for row in rows if not row.is_clean and not row.architecture.note]
    print(f"{len(rows)} architectures, {len(failed)} unexplained misses; see {options.out / 'zoo.md'}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/zoo", description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures, by name; all of them where none is given")
    parser.add_argument("--library", action="append", help="only architectures of this library; repeatable")
    parser.add_argument("--out", type=Path, default=Path("results"), help="the folder of zoo.json and zoo.md")
    return parser.parse_args()


def _is_wanted(model: Architecture, options: argparse.Namespace) -> bool:
    named = not options.names or model.name in options.names
    return named and (not options.library or model.library in options.library)


def _profile(model: Architecture, out: Path) -> Row:
    import_libraries(model)
    row = Row(model, {name: check_pass(model, name) for name in PassName})
    for name, result in row.passes.items():
        clean = not isinstance(result, str) and result.is_clean
        print(f"{'ok  ' if clean else 'MISS'} {model.name}, {name}: {result}", file=sys.stderr, flush=True)
    write_table(out / "zoo.md", add_row(out / "zoo.json", row))  # at once: a long run may be stopped
    return row


if __name__ == "__main__":
    sys.exit(main())
