"""One page per experiment, for the terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from vramscope.findings import Claim, Finding, Origin, Timing, Verdict
from vramscope.views.layout import Trimmed, hanging, indented

_STYLES = {Verdict.HOLDS: "bold green", Verdict.PARTLY: "bold yellow", Verdict.FAILS: "bold red"}
_MADE_BY = {
    Origin.SOURCE: "the source says",
    Origin.CORRECTION: "instead",
    Origin.CONTROL: "control",
    Origin.QUESTION: "asked",
}
_MARGIN = 9
"""Columns that a verdict takes before its claim."""


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a page for every experiment."""
    for finding in findings:
        print_page(finding, console)


def print_page(finding: Finding, console: Console) -> None:
    """Question, answer, claims with their verdicts, and whether the memory adds up."""
    for part in _parts(finding):
        console.print(Trimmed(part))


def _parts(finding: Finding) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(f"{finding.name}: {finding.question}", style="bold")
    yield from (indented(Text(finding.answer)), Text(""))
    for claim in finding.claims:
        yield from _claim_parts(claim)
    for timing in finding.timings:
        yield indented(Text(f"timed, not judged: {timing_words(timing)}"))
    exact = "exact in all" if finding.sums_are_exact else f"off by up to {finding.max_disagreement_bytes:,} B in"
    yield indented(Text(f"memory: sums {exact} {len(finding.passes)} profiled passes", style="dim"))


def _claim_parts(claim: Claim) -> Iterator[RenderableType]:
    verdict = Text(f"  {claim.verdict.value:<7}", style=_STYLES[claim.verdict])
    yield hanging(verdict.append(f"{_MADE_BY[claim.origin]}: {claim.statement}", style="not bold default"), _MARGIN)
    yield indented(Text(claim.measured), _MARGIN)
    if claim.verdict is Verdict.PARTLY:
        yield indented(Text(f"not: {'; '.join(failed_checks(claim))}", style="dim"), _MARGIN)


def timing_words(timing: Timing) -> str:
    """What was timed, and the ratios."""
    return f"{timing.statement}: {', '.join(f'{name} {ratio:.1f}' for name, ratio in timing.times.items())}"


def failed_checks(claim: Claim) -> list[str]:
    """The parts of a claim that the numbers do not bear out."""
    return [name for name, passed in claim.checks.items() if not passed]
