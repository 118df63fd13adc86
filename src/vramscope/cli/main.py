"""The `vramscope` command: finds the subcommand, and turns every error into one line and an exit code."""

import difflib
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence

import click

from vramscope import __version__
from vramscope.cli.output import drop, give_up_printing, tell
from vramscope.collector import leave
from vramscope.errors import OutputError, VramscopeError
from vramscope.names import visible
from vramscope.views.atomic import NO_ROOM

COMMANDS = {
    "compare": ("vramscope.cli.compare:compare_command", "Inference and training of a model side by side."),
    "estimate": ("vramscope.cli.estimate:estimate_command", "What a GPU that is not there would use."),
    "fit": ("vramscope.cli.fit:fit_command", "The largest batch that fits a GPU, and what each remedy would save."),
    "run": ("vramscope.cli.run:run_command", "An unmodified script; keeps its exit code."),
    "experiments": ("vramscope.cli.experiments:experiments_command", "Six questions about networks, measured."),
    "report": ("vramscope.cli.report:report_command", "A recording again, in another form."),
    "diff": ("vramscope.cli.diff:diff_command", "What changed between two recordings; a gate."),
    "snapshot": ("vramscope.cli.snapshot:snapshot_command", "Read and replay a CUDA memory snapshot."),
    "doctor": ("vramscope.cli.doctor:doctor_command", "What this machine can measure, and why not the rest."),
}
"""Each command, where it is and what it does; its module is imported only when the command itself is used."""
DEFECT, INTERRUPTED = 3, 130
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class LazyCommands(click.Group):
    """A group that imports a command's module when the command is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called ``cmd_name``, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; a near miss is answered with the right name."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near:
            raise click.UsageError(f"no such command {args[0]!r}: did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vramscope")
def cli() -> None:
    """Where the memory of a PyTorch step goes, to the byte, on CPUs and GPUs."""


class _TerminatedError(BaseException):
    """We are told to end; no exception of a workload's own, which a factory's ``sys.exit()`` would be."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _end_in_order()
    try:
        code = _flushed(run(given))
    except _TerminatedError as told:
        code = told.code
    leave()
    sys.exit(code)


def _end_in_order() -> None:
    """Leave nothing behind where we are told to end, or the terminal goes; but a signal that is ignored stays so.

    Processes that a workload forks have nothing of ours to leave behind, and end as they would without us.
    """
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    os.register_at_fork(after_in_child=_end_as_ever)


def _end_as_ever() -> None:
    for number in _ENDING:
        if signal.getsignal(number) is _terminate:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: object) -> None:
    """End as an interrupt does: children are ended and temporary files removed on the way out."""
    for ending in _ENDING:  # a terminal that goes tells it, and its shell once more
        signal.signal(ending, signal.SIG_IGN)
    raise _TerminatedError(128 + number)


def _flushed(code: int) -> int:
    """The exit code once everything that was printed has gone out: what cannot go out is an error too."""
    if sys.stdout is None:  # closed by whoever started the command
        return code
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `vramscope … | head`
        drop(sys.stdout)
    except OSError as error:
        return _fail(give_up_printing(error), OutputError.exit_code)
    return code


def run(arguments: Sequence[str]) -> int:
    """Run the command line; errors are printed here and nowhere else."""
    debug = "--debug" in arguments
    try:
        return int(cli.main(list(arguments), prog_name="vramscope", standalone_mode=False) or 0)
    except VramscopeError as error:
        return _fail(str(error), error.exit_code, _details(error) if debug else "")
    except click.exceptions.NoArgsIsHelpError as error:
        tell(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        return _fail(_usage_message(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:  # files that we open ourselves are told with their names
            return _fail(give_up_printing(error), OutputError.exit_code)
        if error.filename is not None and str(error.filename) in arguments:
            return _fail(f"{visible(str(error.filename))}: {error.strerror}; give another", OutputError.exit_code)
        return _report_defect(error, debug)
    except Exception as error:  # noqa: BLE001 - whatever is left is a defect of ours: reported, and never a traceback
        return _report_defect(error, debug)


def _fail(message: str, code: int, details: str = "") -> int:
    if details:
        tell(details)
    line = " ".join(message.split())
    tell(f"vramscope: {line}")
    return code


def _details(error: VramscopeError) -> str:
    """The traceback; a note of the error's holds the child's where it crossed a process boundary."""
    return "".join(traceback.format_exception(error)).rstrip()


def _usage_message(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (try '{context.command_path} --help')" if context is not None else ""
    return error.format_message().rstrip(".") + hint


def _report_defect(error: Exception, debug: bool) -> int:
    text = "".join(traceback.format_exception(error))
    if debug:
        tell(text.rstrip())
    with tempfile.NamedTemporaryFile("w", prefix="vramscope-defect-", suffix=".txt", delete=False) as report:
        report.write(f"vramscope {__version__}, Python {sys.version}\n{text}")
    return _fail(
        f"a defect in vramscope, not in your model: {_last_line(error)}; the report is in {report.name}",
        DEFECT,
    )


def _last_line(error: Exception) -> str:
    """The error without the traceback that a child's report begins with."""
    lines = str(error).strip().splitlines() or [""]
    return lines[-1] if len(lines) > 1 else f"{type(error).__name__}: {lines[0]}"
