"""The pytest plugin: limits on the memory of tests, figures for each of them, and a gate on their growth.

Loaded by pytest wherever vramscope is installed, so nothing heavy is imported before a test is to be measured.
"""

import hashlib
import inspect
import re
import unittest
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vramscope.errors import VramscopeError

if TYPE_CHECKING:
    from vramscope.profiling import Profile
    from vramscope.testing.figures import TestFigures
    from vramscope.testing.limits import LeakLimit, MemoryLimit
    from vramscope.testing.measuring import Measurement
    from vramscope.testing.settings import Settings

_MARKERS = (
    'limit_vram(size, category=None, device="auto", warmup=0): fail if the test holds more tensor memory than this, '
    'such as "200 MiB", at any moment; of one category only where one is named.',
    'limit_vram_leaks(size, device="auto", warmup=0): fail if more than this of what the test allocated is left.',
)
_OPTIONS = {
    "json": ("PATH", "write every test's figures as JSON"),
    "save": ("FILE", "save every test's figures as a baseline"),
    "compare": ("FILE", "compare every test with a saved baseline"),
    "top": ("N", "how many tests the table shows (default: 10)"),
    "default-limit": ("SIZE", "limit_vram for tests that have none of their own"),
    "report": ("DIR", "write every test's recording and an index page"),
}
_PROBLEMS = "vramscope_problems"
_ATTRIBUTE = "vramscope"
"""Where a report carries a test's figures: plain JSON, so that it travels between processes."""


@dataclass(frozen=True)
class _Plan:
    """What a test's markers and the options ask for."""

    limits: "tuple[MemoryLimit, ...]" = ()
    leaks: "tuple[LeakLimit, ...]" = ()
    gated: bool = False
    """Whether growth since a baseline can fail the test."""

    @property
    def all_limits(self) -> "list[MemoryLimit | LeakLimit]":
        """Limits of both kinds."""
        return [*self.limits, *self.leaks]

    @property
    def is_judged(self) -> bool:
        """Whether the figures can fail the test; where they cannot, a failure to measure does not either."""
        return self.gated or bool(self.all_limits)

    @property
    def warmup(self) -> int:
        """How often to run the test before."""
        return max((limit.warmup for limit in self.all_limits), default=0)

    @property
    def device(self) -> str:
        """The device to record: the GPU that a limit names, else what auto means; the CPU is recorded in any case."""
        named = {limit.device for limit in self.all_limits}
        graphics = sorted(name for name in named if name.startswith("cuda"))
        return graphics[0] if graphics else "cpu" if named == {"cpu"} else "auto"


@dataclass
class _Results:
    """Figures by test, as reports bring them in."""

    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    """What is wrong with markers, as workers found it."""


_NOTHING_LEFT = {"leaked_bytes": 0, "leaked_by_category": {}}
"""What a test that failed may say of leaks."""
_SETTINGS: "pytest.StashKey[Settings]" = pytest.StashKey()
_RESULTS = pytest.StashKey[_Results]()
_PLAN = pytest.StashKey[_Plan]()
_MEASUREMENT: "pytest.StashKey[Measurement]" = pytest.StashKey()
_FIGURES = pytest.StashKey[dict[str, Any]]()


# -- options --------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each also as an ini option of the same name."""
    group = parser.getgroup("vramscope", "memory of tensors (vramscope)")
    group.addoption("--vramscope", action="store_true", default=None, help="show the tests that use most memory")
    for name, (metavar, text) in _OPTIONS.items():
        group.addoption(f"--vramscope-{name}", metavar=metavar, default=None, help=text)
    group.addoption(
        "--vramscope-fail-over",
        metavar="[NAME:]VALUE",
        action="append",
        default=None,
        help="fail a test whose peak, category or module=PATH grew by more since the baseline: 5%%, activations:20MiB",
    )
    for name in ("vramscope", *(f"vramscope-{name}" for name in (*_OPTIONS, "fail-over"))):
        for spelling in dict.fromkeys((name, name.replace("-", "_"))):
            kind: Any = "bool" if name == "vramscope" else "args" if name.endswith("fail-over") else "string"
            parser.addini(spelling, f"as --{name}", type=kind, default=None)


def _value(config: pytest.Config, name: str) -> Any:
    """An option from the command line, or from the ini file in either spelling; None where it is not given."""
    given = config.getoption(f"vramscope_{name}".rstrip("_").replace("-", "_"))
    key = f"vramscope-{name}".rstrip("-")
    spellings = (key, key.replace("-", "_"))
    return (
        given if given is not None else next((v for s in spellings if (v := config.getini(s)) not in (None, "")), None)
    )


def _path(config: pytest.Config, name: str) -> Path | None:
    """A path as its author means it: from where pytest was started, or from the ini file's folder."""
    value = _value(config, name)
    given = config.getoption(f"vramscope_{name}") is not None
    return None if value is None else (config.invocation_params.dir if given else config.rootpath) / value


def pytest_configure(config: pytest.Config) -> None:
    """Check everything that was asked for, before any test is looked at."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[_RESULTS] = _Results()
    if any(_value(config, name) for name in ("", *_OPTIONS, "fail-over")):
        config.stash[_SETTINGS] = _as_usage(_settings, config)


def _settings(config: pytest.Config) -> "Settings":
    from vramscope.testing.settings import checked_settings

    return checked_settings(
        table=bool(_value(config, "")),
        top=str(_value(config, "top") or 10),
        json_path=_path(config, "json"),
        save_path=_path(config, "save"),
        report_folder=_path(config, "report"),
        compare_path=_path(config, "compare"),
        fail_over=_value(config, "fail-over") or (),
        default_limit=_value(config, "default-limit"),
    )


def _as_usage(call: Any, *arguments: Any) -> Any:
    """A result; what the user got wrong ends pytest with one line and exit code 4."""
    try:
        return call(*arguments)
    except VramscopeError as error:
        raise pytest.UsageError(f"vramscope: {' '.join(str(error).split())}") from None


# -- collection -----------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Read every test's markers, so that a malformed one stops the run before it begins."""
    problems = []
    for item in items:
        try:
            plan = _plan(config, item)
        except VramscopeError as error:
            problems.append(f"{item.nodeid}: {error}")
            continue
        if plan is not None:
            item.stash[_PLAN] = plan
    if problems and hasattr(config, "workerinput"):
        # xdist takes an error here for a crash, so its main process says it
        vars(config)["workeroutput"][_PROBLEMS] = problems
        items.clear()
    elif problems:
        raise pytest.UsageError("vramscope: " + "\nvramscope: ".join(problems))


def _plan(config: pytest.Config, item: pytest.Item) -> _Plan | None:
    """What to measure of a test, None for nothing; of several markers for the same thing the closest counts."""
    settings = config.stash.get(_SETTINGS, None)
    marked = [*item.iter_markers("limit_vram"), *item.iter_markers("limit_vram_leaks")]
    if not marked:
        default = _default_limits(settings)
        return _Plan(default, gated=_is_gated(settings)) if settings is not None and settings.measures_all else None
    from vramscope.testing.limits import parse_leak_limit, parse_memory_limit

    limits: dict[Any, MemoryLimit] = {}
    for mark in item.iter_markers("limit_vram"):
        limit = parse_memory_limit(mark.args, mark.kwargs)
        limits.setdefault((limit.category, limit.device), limit)
    closest = item.get_closest_marker("limit_vram_leaks")
    leaks = () if closest is None else (parse_leak_limit(closest.args, closest.kwargs),)
    if not any(limit.category is None for limit in limits.values()):
        return _Plan((*limits.values(), *_default_limits(settings)), leaks, _is_gated(settings))
    return _Plan(tuple(limits.values()), leaks, _is_gated(settings))


def _is_gated(settings: "Settings | None") -> bool:
    return settings is not None and bool(settings.thresholds)


def _default_limits(settings: "Settings | None") -> "tuple[MemoryLimit, ...]":
    if settings is None or settings.default_limit_bytes is None:
        return ()
    from vramscope.testing.limits import MemoryLimit

    return (MemoryLimit(settings.default_limit_bytes),)


# -- running --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Measure a test's own call, fixtures left out, and fail it where a limit is passed."""
    plan = item.stash.get(_PLAN, None)
    if plan is None:
        return (yield)
    for _ in range(plan.warmup):
        _warm_up(item)
    measurement = _start(plan)
    if measurement is None:
        return (yield)
    item.stash[_MEASUREMENT] = measurement
    try:
        result = yield
    except BaseException:
        _judge(item, plan, measurement, passed=False)
        raise
    finally:
        del item.stash[_MEASUREMENT]
    _judge(item, plan, measurement, passed=getattr(item, "_excinfo", None) is None)
    return result


def _warm_up(item: pytest.Item) -> None:
    """Run a test's function once more with the same fixtures, so that caches are full whichever test ran before."""
    is_case = isinstance(getattr(item, "instance", None), unittest.TestCase)
    if not isinstance(item, pytest.Function) or is_case or inspect.iscoroutinefunction(item.obj):
        item.runtest()
    else:
        item.obj(**{name: item.funcargs[name] for name in item._fixtureinfo.argnames})


def _start(plan: _Plan) -> "Measurement | None":
    """Begin to measure; None where that is impossible and nothing hangs on it."""
    from vramscope.testing.measuring import Measurement, device_called

    try:
        measurement = Measurement(device_called(plan.device))
        measurement.start()
    except VramscopeError as error:
        _cannot_measure(plan, error)
        return None
    return measurement


def _cannot_measure(plan: _Plan, error: VramscopeError) -> None:
    """A limit that could not be looked at is no pass; figures that nobody judges are only missing."""
    if plan.is_judged:
        pytest.fail(f"vramscope cannot measure this test: {error}", pytrace=False)
    warnings.warn(pytest.PytestWarning(f"vramscope cannot measure this test: {error}"), stacklevel=2)


def _judge(item: pytest.Item, plan: _Plan, measurement: "Measurement", *, passed: bool) -> None:
    """Take the figures; a test that failed already is not judged, for its traceback keeps its tensors alive."""
    from vramscope.ledger.ledger import Ledger
    from vramscope.testing.figures import figures_of

    try:
        recording = measurement.finish()
    except VramscopeError as error:
        if passed:
            _cannot_measure(plan, error)
        return
    ledger = Ledger(recording)
    figures = {device.name: figures_of(ledger, device.name) for device in recording.devices}
    main = figures[recording.devices[0].name]
    settings = item.config.stash.get(_SETTINGS, None)
    _note(item, settings, recording, main.to_json() if passed else {**main.to_json(), **_NOTHING_LEFT})
    if passed:
        problems = [*_over_limits(plan, figures), *_growth(item.nodeid, settings, main)]
        if problems:
            pytest.fail("vramscope: " + "\nvramscope: ".join(problems), pytrace=False)


def _note(item: pytest.Item, settings: "Settings | None", recording: Any, facts: dict[str, Any]) -> None:
    """Put the figures where reports find them, and the recording where the user wants it."""
    item.stash[_FIGURES] = facts
    item.user_properties.append(("vramscope_peak_bytes", facts["peak_bytes"]))
    if settings is not None and settings.report_folder is not None:
        facts["recording"] = _keep(item.nodeid, recording, settings.report_folder)


def _over_limits(plan: _Plan, figures: "dict[str, TestFigures]") -> Iterator[str]:
    from vramscope.testing.limits import LeakLimit
    from vramscope.testing.measuring import device_called
    from vramscope.testing.verdicts import judge_leaks, judge_memory

    for limit in plan.all_limits:
        device = str(device_called(limit.device))
        if device not in figures:
            yield f"a limit is on {device}, and only {' and '.join(figures)} can be recorded together"
            continue
        judged = figures[device]
        problem = judge_leaks(limit, judged) if isinstance(limit, LeakLimit) else judge_memory(limit, judged)
        if problem is not None:
            yield problem


def _growth(name: str, settings: "Settings | None", figures: "TestFigures") -> Iterator[str]:
    """What grew too much since the baseline; a test that is not in it is new."""
    if settings is None or settings.baseline is None or name not in settings.baseline:
        return
    from vramscope.testing.verdicts import judge_growth

    before = settings.baseline[name]
    if before.device != figures.device:
        yield f"the baseline of this test is of {before.device}, and it ran on {figures.device}: save another one"
        return
    for threshold in settings.thresholds:
        problem = judge_growth(threshold, before, figures)
        if problem is not None:
            yield problem


def _keep(name: str, recording: Any, folder: Path) -> str:
    """Write a test's recording; gives its place within the report's folder."""
    from vramscope.recording.file import write_recording

    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[-80:]
    place = f"recordings/{readable}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}.vram"
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    write_recording(recording, folder / place)
    return place


# -- the fixture ----------------------------------------------------------------------------------------------------


class BlockProfiler:
    """The fixture: profiles a block inside a test."""

    def __init__(self, item: pytest.Item) -> None:
        """For a test that may be measured as a whole besides."""
        self._item = item

    @contextmanager
    def profile(
        self, model: Any = None, optimizer: Any = None, *, inputs: Any = None, device: Any = None
    ) -> "Iterator[Profile]":
        """As `vramscope.profile`: the ledger is there when the block has ended. The block counts for limits as well.

        Raises:
            UnsupportedError: another profiler is running.
        """
        from vramscope.profiling import profile

        measurement = self._item.stash.get(_MEASUREMENT, None)
        if measurement is None:
            with profile(model, optimizer, inputs=inputs, device=device) as running:
                yield running
            return
        with measurement.interrupted() as windows:
            try:
                with profile(model, optimizer, inputs=inputs, device=device) as running:
                    yield running
            finally:
                windows.append(running.recording)


@pytest.fixture
def vramscope(request: pytest.FixtureRequest) -> BlockProfiler:
    """Profile a block inside a test: ``with vramscope.profile(model) as profile: …``, then ask ``profile.ledger``."""
    return BlockProfiler(request.node)


# -- reports --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Let the report carry the figures, from a worker's process too."""
    report = yield
    if call.when == "call" and _FIGURES in item.stash:
        setattr(report, _ATTRIBUTE, item.stash[_FIGURES])
    return report


class _Collector:
    """Takes in the reports of all processes."""

    def __init__(self, results: _Results) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the figures; a rerun's replace the earlier ones."""
        facts = getattr(report, _ATTRIBUTE, None)
        if facts is not None:
            outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
            self._results.tests[report.nodeid] = {"outcome": outcome, **facts}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Hear from a worker of xdist what is wrong with the markers."""
        found = getattr(node, "workeroutput", {}).get(_PROBLEMS, ())
        self._results.problems.update(dict.fromkeys(found))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Malformed markers are a usage error in a run with workers as well."""
    if session.config.stash[_RESULTS].problems:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where reports arrive, collect them: in the only process, or in that which started the workers."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Collector(session.config.stash[_RESULTS]), "vramscope-collector")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the table and write the files."""
    for problem in config.stash[_RESULTS].problems:
        terminalreporter.write_line(f"ERROR: vramscope: {problem}", red=True)
    settings = config.stash.get(_SETTINGS, None)
    if settings is None or hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    results = config.stash[_RESULTS].tests
    if settings.table or settings.baseline is not None:
        from vramscope.views.testing.terminal import table_lines

        terminalreporter.write_sep("=", "memory of tests (vramscope)")
        baseline = settings.baseline
        peaks = None if baseline is None else {name: figures.peak_bytes for name, figures in baseline.items()}
        for line in table_lines(results, settings.top, peaks):
            terminalreporter.write_line(line)
    try:
        for path in _write(settings, results):
            terminalreporter.write_line(f"vramscope wrote {path}")
    except VramscopeError as error:
        pytest.exit(f"vramscope: {error}", pytest.ExitCode.USAGE_ERROR)


def _write(settings: "Settings", results: dict[str, dict[str, Any]]) -> list[Path]:
    from vramscope.testing.baseline import write_results

    written = []
    if settings.json_path is not None:
        write_results(results, settings.json_path)
        written.append(settings.json_path)
    if settings.save_path is not None:
        passed = {name: facts for name, facts in results.items() if facts["outcome"] == "passed"}
        write_results(passed, settings.save_path)
        written.append(settings.save_path)
    if settings.report_folder is not None:
        from vramscope.views.testing.page import write_index

        settings.report_folder.mkdir(parents=True, exist_ok=True)
        written.append(write_index(results, settings.report_folder))
    return written
