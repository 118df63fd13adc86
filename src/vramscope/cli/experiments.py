"""`vramscope experiments [NAME…]`: the built-in experiments, judged and profiled."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from vramscope.cli.options import SEED, Place
from vramscope.cli.output import prepare_outputs
from vramscope.cli.progress import progress_bar
from vramscope.cli.results import Results, Writer, text_writer
from vramscope.collector import loading
from vramscope.findings import Finding
from vramscope.views.experiments.document import experiments_document
from vramscope.views.json import to_text


@click.command("experiments")
@click.argument("names", metavar="[NAME]…", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes, for a look that takes a minute or two.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of weights, data and dropout.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-o", "--out", "folder", type=Place(), help="Keep figures and JSON in DIR.")
@click.option("--json", "json_path", metavar="PATH", help="Write the findings as JSON; - is standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and what --json - asks for.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def experiments_command(
    names: tuple[str, ...],
    quick: bool,
    seed: int,
    device: str,
    folder: Path | None,
    json_path: str | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Answer six questions about neural networks by measuring, and show what each answer costs in memory.

    NAME is linear-collapse, gradient-descent, vanishing-gradients, tanh-vs-sigmoid, overfitting or
    training-vs-inference; without any all are run. A claim that fails is a result: the exit code is 0.
    """
    prepare_outputs(folder, json_path)
    findings, document = _run(names, quick, seed, device, quiet)
    text = to_text(document)
    results = Results()
    if folder is not None:
        results.write_folder(folder, _files(findings, text))
    results.write_json(json_path, text)
    if not quiet and json_path != "-":
        _print(findings)
    results.check()


def _run(
    names: Sequence[str], quick: bool, seed: int, device: str, quiet: bool
) -> tuple[list[Finding], dict[str, Any]]:
    """Run the chosen experiments; torch is loaded only here, so that wrong use is refused at once."""
    with loading():
        from vramscope.experiments.catalogue import choose
        from vramscope.experiments.frame import Settings
        from vramscope.recorders.devices import recorded_device
        from vramscope.recorders.environment import describe_device, describe_environment

    chosen, settings = choose(names), Settings(quick, seed, str(recorded_device(device)))
    with progress_bar(sum(experiment.notches(settings) for experiment in chosen), quiet) as bar:
        findings = [experiment.run(settings, bar.announce) for experiment in chosen]
    how = {"quick": quick, "seed": seed, "device": settings.device}
    how["device_name"] = describe_device(recorded_device(device))
    environment = {**describe_environment(), "command": ["vramscope", *sys.argv[1:]]}  # results name no folder
    return findings, experiments_document(findings, how, environment)


def _files(findings: Sequence[Finding], text: str) -> dict[str, Writer]:
    """What is kept, by name."""
    from vramscope.views.experiments.figure import write_figure  # matplotlib takes long to load

    figures: dict[str, Writer] = {f"{finding.name}.png": partial(write_figure, finding) for finding in findings}
    return {**figures, "experiments.json": text_writer(text)}


def _print(findings: Sequence[Finding]) -> None:
    from vramscope.views.console import result_console
    from vramscope.views.experiments.page import print_findings

    print_findings(findings, result_console())
