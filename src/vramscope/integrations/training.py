"""Recording one training that a library's loop runs, between the moments at which its callback is told."""

import gc
import operator
import sys
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import ClassVar, SupportsIndex
from weakref import ref

from vramscope.errors import OutputError, UnsupportedError, UsageError, VramscopeError
from vramscope.ledger.run import RunSummary, summarize_run
from vramscope.recorders.scripts.scene import place_of_process
from vramscope.recorders.scripts.session import ScriptSession
from vramscope.recorders.scripts.surroundings import is_watched
from vramscope.recorders.scripts.windows import WindowPlan
from vramscope.recording.file import iterate_windows
from vramscope.views.autopsy import autopsy_of
from vramscope.views.console import result_console
from vramscope.views.terminal.run import print_run


class TrainingRecorder:
    """Records the steps of a training as `vramscope run` does, and prints the report on standard error at its end.

    Args:
        output: the recording to write. In a distributed job each rank has its own, ``NAME.rankN.vram``, which
            ``vramscope report FOLDER`` merges.
        first: the first optimizer step to record, counted from 0.
        last: the step after the last one to record; None records all that follow.
        rearm: whether steps are recorded again, with source lines, where memory keeps growing.
        report: whether to print the report; of several ranks only the first one prints.

    Raises:
        UsageError: no step lies between ``first`` and ``last``, or one of them is no number of a step.
        OutputError: the recording is to be written in the place of a folder.
    """

    _running: ClassVar["TrainingRecorder | None"] = None
    """Whose session watches: the hooks are the process's, and a library may forget to tell of a training's end."""

    def __init__(
        self, output: Path | str, *, first: SupportsIndex, last: SupportsIndex | None, rearm: bool, report: bool
    ) -> None:
        self._given = _file(output)
        self._plan = _plan(first, last, rearm)
        self._prints = report
        self._session: ScriptSession | None = None
        self._training: ref[object] | None = None
        self._thread = 0
        self._output = self._given
        self.summary: RunSummary | None = None
        """The figures, once the training has ended; None where nothing was recorded."""

    def start(self, training: object) -> None:
        """The training begins; where the recording cannot be written, it goes on without, and a line says so.

        Args:
            training: what every callback of this training is given, and of no other one; it is kept alive by nobody.

        Raises:
            UnsupportedError: the process is recorded already, by `vramscope run` or another callback.
        """
        self.stop("the training was begun again")
        self._end_older(training)
        self.summary = None
        gc.collect()  # an earlier training's optimizer, dead in a cycle, would be taken for one that takes turns
        self._output = _of_rank(self._given)
        try:
            self._output.unlink(missing_ok=True)
            self._session = ScriptSession(self._output.absolute(), self._plan)
        except (VramscopeError, OSError) as refusal:
            _say(f"this training is not recorded: {refusal}")
            return
        self._training, self._thread = ref(training), get_ident()
        TrainingRecorder._running = self

    def _end_older(self, training: object) -> None:
        """End a recording whose training must be over, although nobody told so, since another one begins."""
        older = TrainingRecorder._running
        if older is not None and older._training is not None and older._training() is training:
            raise UnsupportedError(
                "this training is being recorded already, by another vramscope callback: give its trainer one of them"
            )
        if older is not None and older._thread == get_ident():
            older.stop("another training began")
        if is_watched():
            raise UnsupportedError(
                "this process is being recorded already, by `vramscope run` or a callback on another thread: use one "
                "of them"
            )

    def fail(self, error: BaseException) -> None:
        """The training has ended with an exception: say so in the recording; of memory that ran out, print how."""
        self.stop(f"the training ended with {type(error).__name__}", error)

    def stop(self, remark: str = "", error: BaseException | None = None) -> None:
        """The training has ended; nothing happens if none began.

        Args:
            remark: how, where that was no normal end.
            error: what ended it; of memory that ran out, the autopsy is printed.
        """
        session, self._session = self._session, None
        if session is None:
            return
        if TrainingRecorder._running is self:
            TrainingRecorder._running = None
        status = session.close(remark, error)
        try:
            if status["error"]:
                _say(status["error"])
            if status["parts"]:
                self._summarize()
                if status["out_of_memory"]:
                    sys.stderr.write(autopsy_of(self._output, sys.stderr.encoding or "ascii"))
            else:
                _say(f"nothing was recorded: no step ended in the window ({sum(status['steps'].values())} seen in all)")
        except (VramscopeError, OSError) as refusal:  # the training has gone well, whatever becomes of the report
            with suppress(OSError):  # it may be standard error itself that refuses
                _say(str(refusal))

    def _summarize(self) -> None:
        self.summary = summarize_run(iterate_windows(self._output))
        if self._prints and place_of_process().get("rank", 0) == 0:
            print_run(self.summary, result_console(file=sys.stderr))
            _say(f"recording in {self._output}")


class RecordsTraining:
    """The half of a callback that is the same for all libraries; the other half is the library's own class."""

    def __init__(
        self,
        output: Path | str = "training.vram",
        *,
        first: SupportsIndex = 1,
        last: SupportsIndex | None = 4,
        rearm: bool = True,
        report: bool = True,
    ) -> None:
        """Record these steps of every training to come.

        Args:
            output: the recording to write.
            first: the first optimizer step to record, counted from 0.
            last: the step after the last one to record; None records all that follow.
            rearm: whether steps are recorded again, with source lines, where memory keeps growing.
            report: whether to print the report on standard error at the end.

        Raises:
            UsageError: no step lies between ``first`` and ``last``, or one of them is no number of a step.
            OutputError: ``output`` is a folder.
        """
        self._recorder = TrainingRecorder(output, first=first, last=last, rearm=rearm, report=report)
        self._listen()

    def _listen(self) -> None:
        """See to it that the library tells of all that matters, where it does not by itself."""

    @property
    def summary(self) -> RunSummary | None:
        """The figures, once the training has ended; None where nothing was recorded."""
        return self._recorder.summary


def _file(output: Path | str) -> Path:
    path = Path(output)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file, such as {path / 'training.vram'}")
    return path


def _plan(first: SupportsIndex, last: SupportsIndex | None, rearm: bool) -> WindowPlan:
    """Which steps are to be recorded, at least one."""
    begin, end = _step(first), None if last is None else _step(last)
    if begin is None:
        raise UsageError(f"first={first!r}: this is no step's number; give the first to record, counted from 0")
    if last is not None and (end is None or end <= begin):
        raise UsageError(
            f"last={last!r}: no step would be recorded from step {begin} on; give the step after the last one to "
            f"record, at least {begin + 1}, or None for all that follow"
        )
    return WindowPlan(begin, end, rearm)


def _step(number: object) -> int | None:
    """A step's number: a whole one of any type, such as numpy's, but no truth value; None for anything else."""
    if not isinstance(number, SupportsIndex) or isinstance(number, bool):
        return None
    index = operator.index(number)
    return index if index >= 0 else None


def _of_rank(path: Path) -> Path:
    """A file of this process's own in a distributed job."""
    place = place_of_process()
    if place.get("ranks", 1) == 1:
        return path
    return path.with_name(f"{path.name.removesuffix('.vram')}.rank{place['rank']}.vram")


def _say(words: str) -> None:
    print(f"vramscope: {' '.join(words.split())}", file=sys.stderr)
