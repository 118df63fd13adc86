"""The pytest plugin: limits on the memory of tests, figures for each of them, and a gate on their growth.

Loaded by pytest wherever vramscope is installed, so nothing heavy is imported before a test is to be measured.
`vramscope.testing` does the work; the hooks here say when.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from vramscope.errors import VramscopeError
from vramscope.testing.options import MARKERS, add_options, settings_of
from vramscope.testing.plans import check_plans, plan_of
from vramscope.testing.results import WORKER_PROBLEMS, Collector, Results, attach_figures, write_files

if TYPE_CHECKING:
    from vramscope.profiling import Profile
    from vramscope.testing.plans import Plan
    from vramscope.testing.settings import Settings

_SETTINGS: "pytest.StashKey[Settings]" = pytest.StashKey()
_RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each also as an ini option of the same name."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check everything that was asked for, before any test is looked at."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[_RESULTS] = Results()
    try:
        settings = settings_of(config)
    except VramscopeError as error:
        raise pytest.UsageError(f"vramscope: {' '.join(str(error).split())}") from None
    if settings is not None:
        config.stash[_SETTINGS] = settings


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where reports arrive, collect them: in the only process, or in that which started the workers."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Collector(session.config.stash[_RESULTS]), "vramscope-collector")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Read every test's markers, so that a malformed one stops the run before it begins."""
    problems = check_plans(items, config.stash.get(_SETTINGS, None))
    if problems and hasattr(config, "workerinput"):
        # xdist takes an error here for a crash, so its main process says it
        vars(config)["workeroutput"][WORKER_PROBLEMS] = problems
        items.clear()
    elif problems:
        raise pytest.UsageError("vramscope: " + "\nvramscope: ".join(problems))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Measure a test's own call, fixtures left out, and fail it where a limit is passed."""
    settings = item.config.stash.get(_SETTINGS, None)
    plan = _plan_now(item, settings)
    if plan is None:
        return (yield)
    from vramscope.testing.running import measured_call

    return (yield from measured_call(item, plan, settings))


def _plan_now(item: pytest.Item, settings: "Settings | None") -> "Plan | None":
    """The plan by the markers that a test has by now: fixtures and other hooks may have added some."""
    try:
        return plan_of(item, settings)
    except VramscopeError as error:
        problem = str(error)  # not failed in the handler, or pytest would show its traceback as well
    pytest.fail(f"vramscope: {problem}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Let the report carry the figures, from a worker's process too."""
    report = yield
    attach_figures(item, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Malformed markers are a usage error in a run with workers as well, and so are files that cannot be written."""
    results = session.config.stash[_RESULTS]
    stopped = session.shouldfail or session.shouldstop
    results.are_cut_short = bool(stopped) or session.exitstatus == pytest.ExitCode.INTERRUPTED
    if results.problems:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the table and write the files."""
    results, settings = config.stash[_RESULTS], config.stash.get(_SETTINGS, None)
    for problem in results.problems:
        terminalreporter.write_line(f"ERROR: vramscope: {problem}", red=True)
    if settings is None or hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if settings.table or settings.baseline is not None:
        _show_table(terminalreporter, settings, results)
    try:
        for line in write_files(settings, results):
            terminalreporter.write_line(line)
    except VramscopeError as error:
        pytest.exit(f"vramscope: {error}", pytest.ExitCode.USAGE_ERROR)


def _show_table(terminalreporter: Any, settings: "Settings", results: Results) -> None:
    from vramscope.views.testing.terminal import table_lines

    terminalreporter.write_sep("=", "memory of tests (vramscope)")
    baseline = settings.baseline
    before = None if baseline is None else {name: (old.device, old.peak_bytes) for name, old in baseline.items()}
    for line in table_lines(results.tests, settings.top, before):
        terminalreporter.write_line(line)


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
        from vramscope.testing.running import MEASUREMENT

        measurement = self._item.stash.get(MEASUREMENT, None)
        if measurement is None:
            with profile(model, optimizer, inputs=inputs, device=device) as running:
                yield running
            return
        with measurement.interrupted() as windows:
            running = profile(model, optimizer, inputs=inputs, device=device)
            try:
                with running:
                    yield running
            finally:
                if running.has_ended:
                    windows.append(running.recording)


@pytest.fixture
def vramscope(request: pytest.FixtureRequest) -> BlockProfiler:
    """Profile a block inside a test: ``with vramscope.profile(model) as profile: …``, then ask ``profile.ledger``."""
    return BlockProfiler(request.node)
