"""One page per experiment, for the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from vramscope.findings import Claim, Finding, Origin, Timing, Verdict

_STYLES = {Verdict.HOLDS: "bold green", Verdict.PARTLY: "bold yellow", Verdict.FAILS: "bold red"}
_MADE_BY = {
    Origin.SOURCE: "the source says",
    Origin.CORRECTION: "instead",
    Origin.CONTROL: "control",
    Origin.QUESTION: "asked",
}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a page for every experiment."""
    for finding in findings:
        print_page(finding, console)


def print_page(finding: Finding, console: Console) -> None:
    """Question, answer, claims with their verdicts, and whether the memory adds up."""
    console.print()
    console.print(Text(f"{finding.name}: {finding.question}", style="bold"))
    console.print(Padding(Text(finding.answer), (0, 0, 1, 2)))
    for claim in finding.claims:
        _print_claim(claim, console)
    for timing in finding.timings:
        console.print(Padding(Text(f"timed, not judged: {timing_words(timing)}"), (0, 0, 0, 2)))
    exact = "exact in all" if finding.sums_are_exact else f"off by up to {finding.max_disagreement_bytes:,} B in"
    console.print(Text(f"  memory: sums {exact} {len(finding.passes)} profiled passes", style="dim"))


def _print_claim(claim: Claim, console: Console) -> None:
    verdict = Text(f"  {claim.verdict.value:<7}", style=_STYLES[claim.verdict])
    console.print(verdict.append(f"{_MADE_BY[claim.origin]}: {claim.statement}", style="not bold default"))
    console.print(Padding(Text(claim.measured), (0, 0, 0, 9)))
    if claim.verdict is Verdict.PARTLY:
        console.print(Padding(Text(f"not: {'; '.join(failed_checks(claim))}", style="dim"), (0, 0, 0, 9)))


def timing_words(timing: Timing) -> str:
    """What was timed, and the ratios."""
    return f"{timing.statement}: {', '.join(f'{name} {ratio:.1f}' for name, ratio in timing.times.items())}"


def failed_checks(claim: Claim) -> list[str]:
    """The parts of a claim that the numbers do not bear out."""
    return [name for name, passed in claim.checks.items() if not passed]
