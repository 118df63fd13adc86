"""`vramscope run`: profiles an unmodified script, and leaves with the script's own exit code."""

import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from vramscope.cli.no_step import why_no_step
from vramscope.cli.options import OF_TABLES, Place, common_options
from vramscope.cli.output import make_folder, prepare_outputs, tell
from vramscope.cli.ranks import Rank
from vramscope.cli.results import Results, text_writer
from vramscope.errors import UsageError, VramscopeError
from vramscope.ledger.ranks import merge_ranks
from vramscope.ledger.run import RunSummary, summarize_run
from vramscope.recording.file import commit_name, discard_recording, drop_empty, folder_of, iterate_windows
from vramscope.views.autopsy import autopsy_of
from vramscope.views.json import to_text
from vramscope.views.run_json import run_document
from vramscope.workloads.scripts import Outcome, ScriptRequest, run_script

_RUN = "run"
_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


class _EndsAtModule(click.Command):
    """A command whose options end at ``-m MODULE``, as Python's do: what follows is the module's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the mark that ends options behind the module's name."""
        options = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        with_value = {name for option in options if not (option.is_flag or option.count) for name in option.opts}
        place = 0
        while place < len(args) and args[place].startswith("-") and args[place] != "--":
            word = args[place]
            place += 2 if word in with_value else 1
            if word.startswith("-m") and place <= len(args):
                return super().parse_args(ctx, [*args[:place], "--", *args[place:]])
        return super().parse_args(ctx, args)


@click.command("run", cls=_EndsAtModule, context_settings=_SETTINGS)
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does.")
@click.option("--steps", "window", metavar="FIRST:LAST", help="Record these steps, without LAST [default: 1:4].")
@click.option("--all", "everything", is_flag=True, help="Record every step, from the import of torch on.")
@click.option("--rearm/--no-rearm", default=True, help="Record again, with lines, where memory keeps growing.")
@click.option("-o", "--out", "folder", type=Place(), help="Write run.vram and run.json to DIR.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the longer tables.")
@common_options(OF_TABLES)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT] [ARGS]…")
def run_command(
    module: str | None,
    window: str | None,
    everything: bool,
    rearm: bool,
    folder: Path | None,
    top: int,
    json_path: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    arguments: tuple[str, ...],
) -> int:
    """Profile SCRIPT, or a module with -m, without changing it: its output, signals and exit code stay its own.

    Options of vramscope stand before the script. The recording is SCRIPT.vram here, SCRIPT-2.vram and so on where older
    ones are, or run.vram in the folder of --out, whose older one goes when a step is recorded; the report goes to
    standard error, after the script's own output, and ends with the recording's name.
    """
    program, rest = (module, arguments) if module is not None else _script(arguments)
    first, last = _steps(window, everything)
    prepare_outputs(folder, json_path, None if module else Path(program))
    output = _output(folder, module or Path(program).stem)
    with tempfile.TemporaryDirectory(prefix="vramscope-") as scratch:
        status = str(Path(scratch) / "status.json")
        request = ScriptRequest(program, module is not None, rest, str(output.path), status, first, last, rearm)
        outcome = run_script(request)
    if debug and outcome.status.get("traceback"):
        tell(outcome.status["traceback"].rstrip())
    try:
        _report(outcome, output, first, folder, json_path, quiet, top, verbose)
    except BrokenPipeError:
        pass
    except Exception as error:  # noqa: BLE001 - the script's exit code stands, whatever becomes of the report
        kind = (
            "" if isinstance(error, VramscopeError) else f"no report, a defect in vramscope: {type(error).__name__}: "
        )
        tell(f"vramscope: {kind}{' '.join(str(error).split())}")
    return outcome.exit_code


def _script(arguments: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The script and what is its own."""
    if not arguments:
        raise UsageError("run: give a script, or a module with -m")
    if arguments[0].startswith("-"):
        raise UsageError(f"run: no such option {arguments[0]}; options of the script come after its name")
    if not Path(arguments[0]).exists():
        raise UsageError(f"run: cannot open {arguments[0]}: there is no such file")
    if _is_endless(Path(arguments[0])):
        raise UsageError(
            f"run: {arguments[0]} is a device that never ends, no script: reading it would take all memory"
        )
    return arguments[0], arguments[1:]


def _is_endless(path: Path) -> bool:
    """Whether it is one of Linux's memory devices, as /dev/zero and /dev/full (major 1 in admin-guide/devices.txt)."""
    about = path.stat()
    return stat.S_ISCHR(about.st_mode) and os.major(about.st_rdev) == 1 and not path.samefile(os.devnull)


def _steps(window: str | None, everything: bool) -> tuple[int, int | None]:
    """First step, and the one after the last, as in a slice."""
    if everything and window is not None:
        raise UsageError(f"run: --all records what --steps {window} would leave out: give one of them")
    if everything:
        return 0, None
    first, colon, last = (window or "1:4").partition(":")
    if not (colon and first.isdecimal() and last.isdecimal()) or int(first) >= int(last):
        raise UsageError(f"--steps {window}: give FIRST:LAST such as 5:8, which records steps 5, 6 and 7")
    return int(first), int(last)


@dataclass(frozen=True)
class _Output:
    """Where the recording goes.

    Attributes:
        path: the file, or the name of the unsealed folder without its ending.
        beside: an older recording of the same name, which stays.
        before: what `_state` gave for the path before the run.
    """

    path: Path
    beside: Path | None
    before: tuple[object, ...]

    def found(self, status: Mapping[str, Any]) -> Path | None:
        """What the run has left, a sealed file or an unsealed folder; None where all that is there is from before.

        Args:
            status: what the script's process said of the recording; empty where it was killed.
        """
        if status and not status.get("parts"):
            return None  # if anything is new, another run has made it
        sealed, unsealed = (
            now is not None and now != then for now, then in zip(_state(self.path), self.before, strict=True)
        )
        if sealed:
            return self.path
        return folder_of(self.path) if unsealed else None


def _output(folder: Path | None, name: str) -> _Output:
    """Where the recording goes, one for each rank of a distributed job, whose older ones are removed together."""
    rank = Rank.of_environment()
    stem = name if folder is None else _RUN
    stem = stem if rank is None else rank.name(stem)
    if folder is not None:
        make_folder(folder)
    path = (Path.cwd() if folder is None else folder.absolute()) / f"{stem}.vram"
    if rank is not None:
        discard_recording(path)
    free = _free(path) if folder is None else path
    return _Output(free, None if free == path else path, _state(free))


def _free(path: Path) -> Path:
    """A path at which no recording is: this one, or the next number."""
    candidate, number = path, 1
    while candidate.exists() or folder_of(candidate).exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}.vram")
    return candidate


def _state(recording: Path) -> tuple[object, ...]:
    """What tells the sealed file and the first part of an unsealed one from others of their names; None for none."""
    return tuple(_identity(file) for file in (recording, folder_of(recording) / commit_name(0)))


def _identity(file: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        about = file.stat()
        return about.st_ino, about.st_mtime_ns
    return None


def _report(
    outcome: Outcome,
    output: _Output,
    first: int,
    folder: Path | None,
    json_path: str | None,
    quiet: bool,
    top: int,
    verbose: bool,
) -> None:
    found = output.found(outcome.status)
    missed = _missed(outcome)
    older = output.path if found is None and any(output.before) else output.beside
    stays = "" if older is None else f"; {_place(older)} is from before"
    if found is None:
        drop_empty(output.path)
        reason = missed or _not_recorded(outcome) or _nothing(outcome, first)
        if not quiet or "not_started" in outcome.status:
            tell(f"vramscope: {reason}{stays}")
        return
    summary = summarize_run(iterate_windows(found))
    if outcome.status.get("error"):
        summary = replace(summary, notes=(*summary.notes, outcome.status["error"]), complete=False)
    rank = Rank.of_environment()
    runs = rank.gather(output.path, summary) if rank is not None and rank.reports else {}
    document = run_document(summary, outcome.exit_code, merge_ranks(runs))
    document["reading_out_seconds"] = outcome.status.get("reading_out_seconds")
    results = _written(document, folder, output.path, json_path)
    if not quiet and (rank is None or rank.reports):
        _print(summary, runs, rank, top, verbose)
        if outcome.status.get("out_of_memory"):
            tell(autopsy_of(found, sys.stderr.encoding or "ascii"), nl=False)
        if missed:
            tell(f"vramscope: {missed}")
        tell(f"vramscope: recording in {_place(found)}{stays}")
    results.check()


def _place(recording: Path) -> str:
    """The recording, or its folder where it was not sealed, as the user would type it."""
    return os.path.relpath(recording if recording.exists() else folder_of(recording))


def _nothing(outcome: Outcome, first: int) -> str:
    """Why there is nothing to report, given the first step that was wanted."""
    status = outcome.status
    if "not_started" in status:
        return f"the script could not be started: {status['not_started']}"
    if not status:
        return (
            "nothing was recorded: before a step was, the script's process ended at once or became another program "
            "(os._exit, os.execv, a signal)"
        )
    if status.get("error"):
        return str(status["error"])
    if status.get("torch") is False:
        return "nothing was recorded: the script never imported torch"
    return f"nothing was recorded: {why_no_step(status, first)}"


def _missed(outcome: Outcome) -> str:
    """What to do where memory ran out in a step that nobody recorded; empty otherwise."""
    step = outcome.status.get("failed_step")
    if step is None:
        return ""
    return (
        f"memory ran out in step {step}, which was not recorded: run again with --steps {step}:{step + 1} to see what "
        "filled it"
    )


def _not_recorded(outcome: Outcome) -> str:
    """Which steps could not be recorded, and why, where those were all that were wanted; empty otherwise."""
    notes = "; ".join(note.removeprefix("not recorded, ") for note in outcome.status.get("not_recorded", ()))
    return f"nothing was recorded: {notes}" if notes else ""


def _written(document: dict[str, Any], folder: Path | None, output: Path, json_path: str | None) -> Results:
    """The figures in their files, or what kept them out."""
    results, text = Results(), to_text(document)
    if folder is not None:
        results.write(output.with_suffix(".json"), text_writer(text))
    results.write_json(json_path, text)
    return results


def _print(summary: RunSummary, runs: Mapping[int, RunSummary], rank: Rank | None, top: int, verbose: bool) -> None:
    from vramscope.views.console import result_console
    from vramscope.views.terminal.ranks import print_ranked_run
    from vramscope.views.terminal.run import print_run

    console = result_console(file=sys.stderr)
    if rank is None:
        print_run(summary, console, top=top, verbose=verbose)
    else:
        missing = [number for number in rank.here if number not in runs]
        print_ranked_run(runs, missing, console, top=top, verbose=verbose)
