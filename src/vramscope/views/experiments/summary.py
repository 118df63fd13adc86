"""The summary of a run as Markdown, for someone who wants to read what was asked, measured and found."""

from collections.abc import Mapping
from typing import Any

_INTRODUCTION = """# What the experiments found

Six questions about neural networks, each answered by running a network, checking what is claimed with numbers, and
profiling where the memory goes. A claim's verdict is computed from the numbers: **holds** when all of its checks pass,
**partly** when some do, **fails** when none does. The claims come from a text about neural networks (*source*) that
makes mistakes. Beside them stand what it should say (*correction*), what must be so if the explanation is right
(*control*), and what a reader may take it to say (*question*). A claim that fails is a result, not an accident.

Words used below. *Activations*: what the layers of a network compute; *retained*: those kept until backward needs them;
*feature map*: one layer's input or output. *Peak*: the moment of a step at which most memory is in use. *KiB*, *MiB*:
1,024 and 1,048,576 bytes. *eps*: the spacing of a number format's values just above 1. *Nats*: the unit of a loss that
is a natural logarithm. *R²*: the share of the variation that a straight line explains. *||W||₂*: by how much a weight
matrix stretches at most. *95% interval*: where the mean over all seeds lies with 95% confidence, by Student's t.
"""


def summary_markdown(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """One text for the runs on several machines.

    Args:
        documents: what `experiments_document` gave, by the folder, beside the text, that holds the run's figures.
    """
    runs = [_run(folder, document) for folder, document in documents.items()]
    return "\n".join([_INTRODUCTION, *runs])


def _run(folder: str, document: Mapping[str, Any]) -> str:
    experiments = document["experiments"]
    passes = sum(len(experiment["passes"]) for experiment in experiments)
    exact = all(experiment["sums_are_exact"] for experiment in experiments)
    lines = [
        f"## On {document['settings']['device_name']}",
        "",
        _machine(folder, document),
        "",
        f"{passes} passes were profiled; in {'every one' if exact else 'NOT every one'} the categories add up to the "
        "allocator's own total, at every event, to the byte.",
        "",
        *_overview(experiments),
    ]
    return "\n".join([*lines, *(_experiment(folder, experiment) for experiment in experiments)])


def _machine(folder: str, document: Mapping[str, Any]) -> str:
    environment, settings = document["environment"], document["settings"]
    size = " --quick" if settings["quick"] else ""
    return (
        f"Made by `scripts/run_experiments`, which runs `vramscope experiments{size} --seed {settings['seed']} "
        f"--device {settings['device']}`; {environment['threads']} threads, torch {environment['torch']}, "
        f"Python {environment['python']}. All numbers, the passes' memory module by module included, are in "
        f"[experiments.json]({folder}/experiments.json)."
    )


def _overview(experiments: list[Mapping[str, Any]]) -> list[str]:
    rows = ["| experiment | holds | partly | fails |", "|---|---|---|---|"]
    for experiment in experiments:
        verdicts = [claim["verdict"] for claim in experiment["claims"]]
        counts = " | ".join(str(verdicts.count(verdict)) for verdict in ("holds", "partly", "fails"))
        rows.append(f"| [{experiment['name']}](#{experiment['name']}) | {counts} |")
    return [*rows, ""]


def _experiment(folder: str, experiment: Mapping[str, Any]) -> str:
    rows = [_row(claim) for claim in experiment["claims"]]
    return "\n".join(
        [
            f"### {experiment['name']}",
            "",
            f"**{experiment['question']}** {experiment['answer']}",
            "",
            f"![{experiment['picture']['headline']}]({folder}/{experiment['name']}.png)",
            "",
            *([experiment["picture"]["caption"], ""] if experiment["picture"]["caption"] else []),
            "| claim | by | measured | verdict |",
            "|---|---|---|---|",
            *rows,
            "",
            *(part for timing in experiment["timings"] for part in (_timing(timing), "")),
        ]
    )


def _row(claim: Mapping[str, Any]) -> str:
    measured = claim["measured"]
    failed = [name for name, passed in claim["checks"].items() if not passed]
    if claim["verdict"] == "partly":
        measured += f". Not: {'; '.join(failed)}"
    cells = (claim["claim"], claim["made_by"], measured, f"**{claim['verdict']}**")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _timing(timing: Mapping[str, Any]) -> str:
    ratios = ", ".join(f"{name} {ratio:.1f}" for name, ratio in timing["times"].items())
    return f"Timed, not judged, since times differ from run to run. {timing['statement']}: {ratios}."
