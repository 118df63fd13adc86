"""The JSON of `experiments`: claims with verdict and evidence, and the profiled passes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vramscope.findings import Claim, Finding
from vramscope.views.json import SCHEMA, pass_document


def experiments_document(
    findings: Sequence[Finding], settings: Mapping[str, Any], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """The document of a run; ``timings`` and the environment are all that differs between two runs of one seed."""
    return {
        "schema": SCHEMA,
        "tool": "experiments",
        "environment": dict(environment),
        "settings": dict(settings),
        "experiments": [_experiment(finding) for finding in findings],
    }


def _experiment(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "question": finding.question,
        "answer": finding.answer,
        "claims": [_claim(claim) for claim in finding.claims],
        "sums_are_exact": finding.sums_are_exact,
        "max_disagreement_bytes": finding.max_disagreement_bytes,
        "passes": {name: pass_document(summary) for name, summary in finding.passes.items()},
        "picture": asdict(finding.picture),
        "timings": [asdict(timing) for timing in finding.timings],
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "claim": claim.statement,
        "verdict": claim.verdict.value,
        "made_by": claim.origin.value,
        "measured": claim.measured,
        "checks": dict(claim.checks),
        "evidence": dict(claim.evidence),
    }
