"""What was profiled, why training needs more, what the reader must know before believing a figure, and remarks."""

from rich.console import Group
from rich.text import Text

from vramscope.names import visible
from vramscope.views.terminal.page import Page
from vramscope.views.text import counted
from vramscope.views.why import explain

_FACTS = (("batch", "batch {}"), ("seq", "seq {}"), ("dtype", "{}"), ("amp", "autocast {}"), ("device", "{}"))


def header(page: Page) -> Group:
    """The model, its size and circumstances, and the one sentence."""
    lines = [page.joined([_name(page), *_facts(page)]), _origin(page)]
    reason = explain(page.comparison, page.prose_scale)
    return Group(*lines, *([Text(""), page.sentence(reason, "bold")] if reason is not None else []))


def _name(page: Page) -> Text:
    workload = page.comparison.workload
    return page.name(str(workload.get("name") or workload.get("target") or "recording"), "bold cyan")


def _facts(page: Page) -> list[Text]:
    workload = page.comparison.workload
    facts = [counted(workload["parameter_count"], "parameter")] if workload.get("parameter_count") else []
    if (workload.get("accumulate") or 1) > 1 and "training" in page.passes:
        facts.append(f"{workload['accumulate']} micro-batches a step")
    if workload.get("parallel"):
        facts.append(f"a rank of {workload['parallel']} over {workload['world_size']} GPUs")
    facts += [form.format(workload[key]) for key, form in _FACTS if workload.get(key) not in (None, "")]
    if workload.get("optimizer") and "training" in page.passes:
        facts.append(str(workload["optimizer"]))
    return [page.name(fact) for fact in facts]


def _origin(page: Page) -> Text:
    """Where the figures come from."""
    if page.comparison.predicted:
        return page.words("PREDICTED, not measured: nothing ran on this device", "bold yellow")
    torch = page.comparison.environment.get("torch")
    devices = dict.fromkeys(device.name for summary in page.passes.values() for device in summary.devices)
    facts = [*devices, *([f"torch {torch}"] if torch else []), _steps(page)]
    return page.joined(page.name(fact, "dim") for fact in facts if fact)


def _steps(page: Page) -> str:
    steady = page.main.steady_steps
    if not steady:
        return page.whole
    return counted(steady, "steady step")


def warnings(page: Page) -> Group | None:
    """What makes the figures doubtful: loudly, and before them."""
    lines: list[Text] = []
    for name, summary in page.passes.items():
        for device in summary.devices:
            check = device.allocator
            if check.max_disagreement_bytes or sum(device.peak.by_category.values()) != check.peak_bytes:
                words = _disagreement(name, device.device, check.max_disagreement_bytes)
                lines.append(page.sentence(visible(words, page.console.encoding, longest=None), "bold red"))
        if not summary.complete:
            lines.append(page.remark(f"WARNING: the {name} recording is incomplete: its end is missing.", "bold red"))
    return Group(Text(""), *lines) if lines else None


def _disagreement(name: str, device: str, size_bytes: int) -> str:
    return (
        f"WARNING: do not trust the figures of {name} on {device}. The ledger and the allocator's own total differ by "
        f"up to {size_bytes:,} B: the recording lacks events, or vramscope has a defect. Record again, and please "
        "report it if it stays."
    )


def notes(page: Page) -> Group | None:
    """Remarks that came with the recordings, each once."""
    found: dict[str, list[str]] = {}
    for name, summary in page.passes.items():
        for note in dict.fromkeys((*summary.notes, *(summary.host.notes if summary.host else ()))):
            found.setdefault(note, []).append(name)
    lines = [_note(page, note, names) for note, names in found.items()]
    return page.section("Notes", *lines) if lines else None


def _note(page: Page, note: str, names: list[str]) -> Text:
    everywhere = len(names) == len(page.passes)
    return page.remark(note if everywhere else f"{', '.join(names)}: {note}")
