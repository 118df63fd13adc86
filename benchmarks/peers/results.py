"""The comparison's results: a JSON file that further runs add to, and the tables made from it."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.peers.accuracy import TRUTH
from benchmarks.peers.models import KERNEL, MODELS
from benchmarks.peers.overhead import UNPROFILED
from benchmarks.peers.tools import SPLIT, TOOLS
from benchmarks.storing import read_json, write_json

SCHEMA = "vramscope-benchmark/1"
Results = Mapping[str, Any]
_ESTIMATES = {"torchinfo", "accelerate"}
_PACKAGES = ("vramscope", "torch", "numpy", "memray", "torchinfo", "accelerate")
_BEFORE = """# vramscope beside its peers

Made by `scripts/benchmark`, all tools on the same training steps: {about}.

- *step*: the time of a step under the tool, in steps without any; each round times every tool once, in turn, in one
  process, and the ratio is that of the medians.
- *report*: from the end of the step to the tool's report, in seconds. vramscope: reading out and writing the recording;
  MemTracker: a snapshot; torch.profiler: its memory timeline; memray: reading the high-water mark.
- *peak error*: what the tool says the step's peak is, against the CPU allocator's own running total. memray counts
  every `malloc` of the process, Python's and libraries' included, so it lies above by design; torchinfo and accelerate
  estimate, and count no optimizer step or no activations by design.
- *split error*: how far parameters, gradients and optimizer state after the step, together, are from what follows from
  the number of parameters by hand; – where the tool does not name all three.
- *kernel*: the peak error on a lone convolution that unfolds its input inside the kernel.
- *backward*: how much of what backward allocated the tool books on a module (the loss is none's); – where it has no
  such notion.
- *own memory*: peak RSS of the process with the tool, less that without; – where the tool estimates and runs no step.
  Two processes are never quite alike: differences of some MiB, below zero too, are noise.
"""


def add(path: Path, section: str, name: str, found: Any) -> dict[str, Any]:
    """Put one measurement in the file, with what it was made on, and give all of it."""
    known = read_json(path)
    sections = {**known.get("sections", {})}
    entry = {"machine": describe_machine(), "versions": {package: version(package) for package in _PACKAGES}}
    sections[section] = {**sections.get(section, {}), name: {**entry, "found": found}}
    content = {"schema": SCHEMA, "sections": sections}
    write_json(path, content)
    return content


def tables(content: Results) -> str:
    """The results as a page of Markdown."""
    sections = content["sections"]
    entries = [entry for section in sections.values() for entry in section.values()]
    machines = sorted({entry["machine"] for entry in entries})
    versions = sorted({f"{name} {number}" for entry in entries for name, number in entry["versions"].items()})
    parts = [_BEFORE.format(about=f"AdamW, float32, on {'; '.join(machines)}; {', '.join(versions)}")]
    overhead, accuracy = sections.get("overhead", {}), sections.get("accuracy", {})
    if overhead or accuracy:
        parts += ["## All at a glance", "", *_overview(overhead, accuracy), ""]
    if overhead:
        parts += ["## Step time", "", *_overhead_table(overhead), ""]
    if accuracy:
        parts += ["## What they say of memory", "", *_accuracy_table(accuracy), ""]
    if "growth" in sections:
        parts += ["## How the cost grows", "", *_growth_table(sections["growth"])]
    return "\n".join(parts).rstrip() + "\n"


def _overview(overhead: Results, accuracy: Results) -> Iterator[str]:
    """One row for each tool: its worst figure in each column."""
    columns = ["step, worst of the others", "step, tiny layers", "report", "peak error", "split error", "kernel"]
    yield _row("tool", *columns, "backward", "own memory")
    yield _rule(9)
    for tool in TOOLS:
        yield _row(tool, *_costs(tool, overhead), *_claims(tool, accuracy))


def _costs(tool: str, overhead: Results) -> Iterator[str]:
    found = {name: entry["found"][tool] for name, entry in overhead.items() if tool in entry["found"]}
    others = [value["step_ratio"] for name, value in found.items() if name != "tiny"]
    yield f"{max(others):.2f}" if others else "–"
    yield f"{found['tiny']['step_ratio']:.2f}" if "tiny" in found else "–"
    yield f"{max(value['report_seconds'] for value in found.values()):.2f} s" if found else "–"


def _claims(tool: str, accuracy: Results) -> Iterator[str]:
    models = [entry["found"] for name, entry in accuracy.items() if name != KERNEL.name and tool in entry["found"]]
    kernels = [entry["found"] for name, entry in accuracy.items() if name == KERNEL.name and tool in entry["found"]]
    yield _worst([_peak_error(found, tool) for found in models])
    yield _worst([_split_error(found, tool) for found in models])
    yield _worst([_peak_error(found, tool) for found in kernels])
    shares = [share for found in models if (share := found[tool]["backward_share"]) is not None]
    yield f"{min(shares):.1%}" if shares else "–"
    own = [size for found in models if (size := _own_memory_bytes(found, tool)) is not None]
    yield f"{max(own) / 2**20:,.0f} MiB" if own else "–"


def _own_memory_bytes(found: Results, tool: str) -> int | None:
    """None for a tool that runs no step: there is nothing to compare its process with."""
    return None if tool in _ESTIMATES else int(found[tool]["own_memory_bytes"])


def _peak_error(found: Results, tool: str) -> float:
    truth = found[TRUTH]["peak_bytes"]
    return float(found[tool]["peak_bytes"] - truth) / truth


def _split_error(found: Results, tool: str) -> float | None:
    said, truth = found[tool]["split"], found[TRUTH]["split"]
    if set(said) != set(SPLIT):
        return None
    return sum(abs(said[category] - truth[category]) for category in SPLIT) / sum(truth.values())


def _worst(errors: Sequence[float | None]) -> str:
    known = [error for error in errors if error is not None]
    return _percent(max(known, key=abs)) if known else "–"


def _percent(error: float) -> str:
    return "0" if error == 0 else f"{error:+.3%}" if abs(error) < 0.01 else f"{error:+.1%}"


def _overhead_table(overhead: Results) -> Iterator[str]:
    names = [name for name in MODELS if name in overhead] + [name for name in overhead if name not in MODELS]
    for what, figure in (("step", "step_ratio"), ("report, s", "report_seconds")):
        yield _row(what, *names)
        yield _rule(1 + len(names))
        for tool in (UNPROFILED, *TOOLS):
            found = [overhead[name]["found"].get(tool) for name in names]
            if any(found) and not (tool == UNPROFILED and figure == "report_seconds"):
                yield _row(tool, *(f"{value[figure]:.2f}" if value else "–" for value in found))
        yield ""
    steps = [f"{name} {overhead[name]['found'][UNPROFILED]['step_seconds'] * 1e3:,.1f} ms" for name in names]
    rounds = {entry["found"][UNPROFILED]["rounds"] for entry in overhead.values()}
    yield f"Unprofiled steps: {', '.join(steps)}; medians of {min(rounds)} to {max(rounds)} rounds."


def _accuracy_table(accuracy: Results) -> Iterator[str]:
    order = [*MODELS, KERNEL.name]
    for name in [name for name in order if name in accuracy] + [name for name in accuracy if name not in order]:
        found = accuracy[name]["found"]
        yield f"### {name}: the allocator's peak is {found[TRUTH]['peak_bytes']:,} B"
        yield ""
        yield _row("tool", "peak, B", "peak error", *(str(category) for category in SPLIT), "backward", "own memory")
        yield _rule(5 + len(SPLIT))
        for tool in (TRUTH, *TOOLS):
            if tool in found:
                yield _claim_row(tool, found)
        yield ""


def _claim_row(tool: str, found: Results) -> str:
    claim = found[tool]
    split = [f"{claim['split'][category]:,}" if category in claim["split"] else "–" for category in SPLIT]
    error = booked = own = ""  # the truth's
    if tool != TRUTH:
        share, own_bytes = claim["backward_share"], _own_memory_bytes(found, tool)
        error = _percent(_peak_error(found, tool))
        booked = f"{share:.1%}" if share is not None else "–"
        own = f"{own_bytes / 2**20:,.1f} MiB" if own_bytes is not None else "–"
    return _row(tool, f"{claim['peak_bytes']:,}", error, *split, booked, own)


def _growth_table(growth: Results) -> Iterator[str]:
    yield "A slope of 1 means: twice as much takes twice as long; of the upper half of each curve, on logarithms."
    yield ""
    for name, entry in growth.items():
        yield f"![Seconds over {entry['found'][0]['over']}](growth-{name}.png)"
        yield ""
        counts = entry["found"][0]["counts"]
        yield _row(f"seconds over {entry['found'][0]['over']}", *(f"{count:,}" for count in counts), "slope")
        yield _rule(2 + len(counts))
        for curve in entry["found"]:
            seconds = [f"{value:.4f}" if value < 1 else f"{value:.2f}" for value in curve["seconds"]]
            yield _row(curve["of"], *seconds, f"{curve['slope']:.2f}")
        yield ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(count: int) -> str:
    return "|---|" + "--:|" * (count - 1)
