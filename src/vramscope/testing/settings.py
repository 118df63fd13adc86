"""What a run of tests was asked to do about memory, checked once at its beginning."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vramscope.errors import UsageError
from vramscope.ledger.thresholds import Figure, Threshold, parse_threshold
from vramscope.testing.baseline import Baseline, read_baseline
from vramscope.units import parse_size
from vramscope.views.places import check_file, check_folder


@dataclass(frozen=True)
class Settings:
    """Checked options; without any of them only tests with a marker are measured."""

    table: bool
    top: int
    json_path: Path | None
    save_path: Path | None
    report_folder: Path | None
    compare_path: Path | None
    baseline: Baseline | None
    thresholds: tuple[Threshold, ...]
    default_limit_bytes: int | None

    @property
    def measures_all(self) -> bool:
        """Whether every test is measured, limits or not."""
        outputs = (self.json_path, self.save_path, self.report_folder, self.baseline, self.default_limit_bytes)
        return self.table or any(output is not None for output in outputs)


def checked_settings(
    *,
    table: bool,
    top: str,
    json_path: Path | None,
    save_path: Path | None,
    report_folder: Path | None,
    compare_path: Path | None,
    fail_over: Sequence[str],
    default_limit: str | None,
) -> Settings:
    """The settings.

    Raises:
        UsageError: one of them is malformed, or needs another one.
        RecordingError: the baseline is missing, broken or empty.
        OutputError: something cannot be written where it was asked for.
    """
    if fail_over and compare_path is None:
        raise UsageError("--vramscope-fail-over needs a baseline: name one with --vramscope-compare FILE")
    if not top.isdecimal() or not int(top):
        raise UsageError(f"--vramscope-top {top}: give a number of tests, at least 1")
    for path in (json_path, save_path):
        if path is not None:
            check_file(str(path))
    if report_folder is not None:
        check_folder(report_folder, "--vramscope-report")
    baseline = None if compare_path is None else read_baseline(compare_path)
    thresholds = tuple(parse_threshold(text, "--vramscope-fail-over") for text in fail_over)
    if baseline is not None:
        _require_modules(thresholds, baseline)
    return Settings(
        table=table,
        top=int(top),
        json_path=json_path,
        save_path=save_path,
        report_folder=report_folder,
        compare_path=compare_path,
        baseline=baseline,
        thresholds=thresholds,
        default_limit_bytes=None if default_limit is None else _default_limit(default_limit),
    )


def _default_limit(text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(f"--vramscope-default-limit: {error}") from None


def _require_modules(thresholds: Sequence[Threshold], baseline: Baseline) -> None:
    """Refuse a module that no test of the baseline has: a gate on a misspelt name would always be open."""
    known = {path for figures in baseline.values() for path in figures.module_peaks}
    for threshold in thresholds:
        if threshold.figure is Figure.MODULE and threshold.name not in known:
            raise UsageError(f"--vramscope-fail-over {threshold.text}: no test of the baseline has that module")
