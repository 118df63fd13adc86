"""Around one test's call: warm up, measure, judge. Loads torch, so it is imported when a test is to be measured."""

import inspect
import unittest
import warnings
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from vramscope.errors import VramscopeError
from vramscope.ledger.ledger import Ledger
from vramscope.recording.recording import Recording
from vramscope.testing.figures import TestFigures, figures_of
from vramscope.testing.keeping import keep_recording
from vramscope.testing.limits import LeakLimit
from vramscope.testing.measuring import Measurement, device_called
from vramscope.testing.plans import Plan
from vramscope.testing.results import FIGURES, PROBLEM
from vramscope.testing.settings import Settings
from vramscope.testing.verdicts import doubt_memory, judge_growth, judge_leaks, judge_memory

MEASUREMENT = pytest.StashKey[Measurement]()
_NOTHING_LEFT = {"leaked_bytes": 0, "leaked_by_category": {}}
"""What a test that failed may say of leaks."""


def measured_call(item: pytest.Item, plan: Plan, settings: Settings | None) -> Generator[None, None, None]:
    """Run a test's own call, fixtures left out, under a recorder, and fail it where a limit is passed."""
    for _ in range(plan.warmup):
        _warm_up(item)
    measurement = _start(plan)
    if measurement is None:
        return (yield)
    item.stash[MEASUREMENT] = measurement
    try:
        result = yield
    except BaseException:
        _judge(item, plan, settings, measurement, passed=False)
        raise
    finally:
        del item.stash[MEASUREMENT]
    _judge(item, plan, settings, measurement, passed=getattr(item, "_excinfo", None) is None)
    return result


def _warm_up(item: pytest.Item) -> None:
    """Run a test's function once more with the same fixtures, so that caches are full whichever test ran before.

    What a ``unittest.TestCase`` ends with lies with its item, where pytest looks for it; raised here too, it ends the
    test as it does any other, instead of lying there twice.
    """
    is_case = isinstance(getattr(item, "instance", None), unittest.TestCase)
    if not isinstance(item, pytest.Function) or is_case or inspect.iscoroutinefunction(item.obj):
        item.runtest()
        if endings := getattr(item, "_excinfo", None):
            raise endings[0].value
    else:
        item.obj(**{name: item.funcargs[name] for name in item._fixtureinfo.argnames})


def _start(plan: Plan) -> Measurement | None:
    """Begin to measure; None where that is impossible and nothing hangs on it."""
    begun = _begin(plan)
    if isinstance(begun, str):  # not in the handler of the error, or pytest would show that as well
        _cannot_measure(plan, begun)
        return None
    return begun


def _begin(plan: Plan) -> Measurement | str:
    """A running measurement, or why there is none."""
    try:
        measurement = Measurement(device_called(plan.device))
        measurement.start()
    except VramscopeError as error:
        return str(error)
    return measurement


def _cannot_measure(plan: Plan, reason: str) -> None:
    """A limit that could not be looked at is no pass; figures that nobody judges are only missing."""
    if plan.is_judged:
        pytest.fail(f"vramscope cannot measure this test: {reason}", pytrace=False)
    _warn(f"cannot measure this test: {reason}")


def _warn(text: str) -> None:
    warnings.warn(pytest.PytestWarning(f"vramscope: {text}"), stacklevel=2)


def _judge(item: pytest.Item, plan: Plan, settings: Settings | None, measurement: Measurement, *, passed: bool) -> None:
    """Take the figures; a test that failed already is not judged, for its traceback keeps its tensors alive."""
    recording = _finish(measurement)
    if isinstance(recording, str):
        if passed:
            _cannot_measure(plan, recording)
        return
    ledger = Ledger(recording)
    figures = {device.name: figures_of(ledger, device.name) for device in recording.devices}
    main = figures[recording.devices[0].name]
    _note(item, settings, recording, main.to_json() if passed else {**main.to_json(), **_NOTHING_LEFT})
    if plan.is_judged and measurement.other_threads:
        _warn(_unseen(measurement.other_threads))
    if passed:
        for doubt in _doubts(plan, figures):
            _warn(doubt)
        problems = [*_over_limits(plan, figures), *_growth(item.nodeid, settings, main)]
        if problems:
            item.stash[FIGURES]["problems"] = [problem.splitlines()[0] for problem in problems]
            pytest.fail("vramscope: " + "\nvramscope: ".join(problems), pytrace=False)


def _finish(measurement: Measurement) -> Recording | str:
    """The recording, or why there is none."""
    try:
        return measurement.finish()
    except VramscopeError as error:
        return str(error)


def _unseen(threads: tuple[str, ...]) -> str:
    names = ", ".join(dict.fromkeys(threads))
    return (
        f"the test started {'a thread' if len(threads) == 1 else f'{len(threads)} threads'} ({names}); tensors made "
        "there are not counted, so neither the figures nor the limits cover them"
    )


def _note(item: pytest.Item, settings: Settings | None, recording: Recording, facts: dict[str, Any]) -> None:
    """Put the figures where reports find them, and the recording where the user wants it."""
    item.stash[FIGURES] = facts
    item.user_properties.append(("vramscope_peak_bytes", facts["peak_bytes"]))
    if settings is None or settings.report_folder is None:
        return
    try:
        facts["recording"] = keep_recording(item.nodeid, recording, settings.report_folder)
    except VramscopeError as error:
        facts[PROBLEM] = f"{item.nodeid}: {error}"


def _doubts(plan: Plan, figures: dict[str, TestFigures]) -> Iterator[str]:
    """Of limits that hold, and might not if all were known."""
    for limit in plan.limits:
        judged = figures.get(str(device_called(limit.device)))
        doubt = None if judged is None else doubt_memory(limit, judged)
        if doubt is not None:
            yield doubt


def _over_limits(plan: Plan, figures: dict[str, TestFigures]) -> Iterator[str]:
    for limit in plan.all_limits:
        device = str(device_called(limit.device))
        if device not in figures:
            yield f"a limit is on {device}, and only {' and '.join(figures)} can be recorded together"
            continue
        judged = figures[device]
        problem = judge_leaks(limit, judged) if isinstance(limit, LeakLimit) else judge_memory(limit, judged)
        if problem is not None:
            yield problem


def _growth(name: str, settings: Settings | None, figures: TestFigures) -> Iterator[str]:
    """What grew too much since the baseline, where anything is too much; a test that is not in it is new."""
    if settings is None or settings.baseline is None or not settings.thresholds or name not in settings.baseline:
        return
    before = settings.baseline[name]
    if before.device != figures.device:
        yield f"the baseline of this test is of {before.device}, and it ran on {figures.device}: save another one"
        return
    for threshold in settings.thresholds:
        problem = judge_growth(threshold, before, figures)
        if problem is not None:
            yield problem
