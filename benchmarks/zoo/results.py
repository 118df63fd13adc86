"""The zoo's results: a JSON file that further runs add to, and the table made from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.storing import read_json, write_json
from benchmarks.zoo.architecture import Architecture
from benchmarks.zoo.check import FAULTS, Check
from vramscope.workloads.passes import PassName

SCHEMA = "vramscope-zoo/1"
_BEFORE = """# The zoo: is every byte accounted for?

Made by `scripts/zoo`. Each architecture, built small from a configuration of its library with random weights, is
profiled in inference and training: one cold and two steady steps, AdamW, each pass in a fresh process. At **every
event** the categories are compared with the allocator's own total, and after every step the labels with a walk of the
live objects.

- *disagreement*: the most by which the ledger and the allocator's total differ at any event;
- *inexact*: events after which the categories do not add up to that total;
- *unattributed*: the most bytes at once that had no owner, at any event of any step;
- *mislabelled*: the most by which parameters, buffers, gradients or optimizer state differ from the live objects.
"""


@dataclass(frozen=True)
class Row:
    """One architecture under one torch: a check, or the reason for not having one, for each pass."""

    architecture: Architecture
    passes: Mapping[PassName, Check | str]

    @property
    def key(self) -> str:
        """What a later run of the same replaces."""
        return f"{self.architecture.name} @ torch {version('torch')}"

    @property
    def is_clean(self) -> bool:
        """Whether every pass ran and has nothing to explain."""
        return all(isinstance(found, Check) and found.is_clean for found in self.passes.values())

    def to_json(self) -> dict[str, Any]:
        """All of it, in JSON's types."""
        model = self.architecture
        versions = {name: version(name) for name in ("torch", model.library)}
        passes = {str(name): {"error": c} if isinstance(c, str) else asdict(c) for name, c in self.passes.items()}
        about = {
            "name": model.name,
            "kind": str(model.kind),
            "library": model.library,
            "source": model.source,
            "note": model.note,
        }
        return {**about, "versions": versions, "machine": describe_machine(), "passes": passes}


def add_row(path: Path, row: Row) -> dict[str, Any]:
    """Add a row to the file, in place of that of the same architecture and torch, and give all of it."""
    known = read_json(path).get("rows", {})
    content = {"schema": SCHEMA, "rows": {**known, row.key: row.to_json()}}
    write_json(path, content)
    return content


def write_table(path: Path, content: Mapping[str, Any]) -> None:
    """The same as a page of Markdown."""
    rows = list(content["rows"].values())
    text = "\n".join([_BEFORE, *_summary(rows), "", *_misses(rows), "", *_details(rows)])
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def _summary(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| torch | library | architectures | passes | exact, attributed and labelled to the byte | events |"]
    lines.append("|---|---|--:|--:|--:|--:|")
    for torch_version, library, library_version in sorted(set(map(_versions, rows))):
        chosen = [row for row in rows if _versions(row) == (torch_version, library, library_version)]
        passes = [result for row in chosen for result in row["passes"].values()]
        events = sum(result.get("events", 0) for result in passes)
        clean = sum(_is_clean(result) for result in passes)
        counts = f"{len(chosen)} | {len(passes)} | {clean} | {events:,}"
        lines.append(f"| {torch_version} | {library} {library_version} | {counts} |")
    machines = sorted({row["machine"] for row in rows})
    return [*lines, "", f"Machine: {'; '.join(machines)}."]


def _versions(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a row was made with: torch's version, the library, and its version."""
    return row["versions"]["torch"], row["library"], row["versions"][row["library"]]


def _is_clean(result: Mapping[str, Any]) -> bool:
    return "error" not in result and not any(result[name] for name in FAULTS)


def _misses(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        for name, result in row["passes"].items():
            if not _is_clean(result):
                faults = [f"{fault.replace('_', ' ')} {result[fault]:,}" for fault in FAULTS if result.get(fault)]
                what = result.get("error") or ", ".join(faults)
                why = f" Explained: {row['note']}." if row.get("note") else ""
                lines.append(f"- {row['name']}, {name}, torch {row['versions']['torch']}: {what}.{why}")
    return ["## Misses", "", *(lines or ["None."])]


def _details(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## All architectures"]
    for torch_version in sorted({row["versions"]["torch"] for row in rows}):
        lines += ["", f"### torch {torch_version}", ""]
        lines.append(
            "| architecture | kind | model | inference peak, B | training peak, B | events "
            "| disagreement, B | inexact | unattributed, B | mislabelled, B |"
        )
        lines.append("|---|---|---|--:|--:|--:|--:|--:|--:|--:|")
        lines += [_detail(row) for row in rows if row["versions"]["torch"] == torch_version]
    return lines


def _detail(row: Mapping[str, Any]) -> str:
    results = list(row["passes"].values())
    peaks = [f"{result['peak_bytes']:,}" if "peak_bytes" in result else "failed" for result in results]
    events = sum(result.get("events", 0) for result in results)
    worst = [f"{max(result.get(fault, 0) for result in results):,}" for fault in FAULTS]
    cells = [row["name"], row["kind"], f"`{row['source']}`", *peaks, f"{events:,}", *worst]
    return f"| {' | '.join(cells)} |"
