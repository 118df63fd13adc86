"""The plugin's options: on the command line and, of the same names, in the ini file. Checked before any test runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vramscope.errors import UsageError

if TYPE_CHECKING:
    from vramscope.testing.settings import Settings

MARKERS = (
    'limit_vram(size, category=None, device="auto", warmup=0): fail if the test holds more tensor memory than this, '
    'such as "200 MiB", at any moment; of one category only where one is named. Counts the test\'s own thread.',
    'limit_vram_leaks(size, device="auto", warmup=0): fail if more than this of what the test allocated is left.',
)
_TABLE = "vramscope"
_FAIL_OVER = "vramscope-fail-over"
_VALUES = {
    "vramscope-json": ("PATH", "write every test's figures as JSON"),
    "vramscope-save": ("FILE", "save every passed test's figures as a baseline, unless the run is cut short"),
    "vramscope-compare": ("FILE", "compare every test with a saved baseline"),
    "vramscope-top": ("N", "how many tests the table shows (default: 10)"),
    "vramscope-default-limit": ("SIZE", "limit_vram for tests that have none of their own"),
    "vramscope-report": ("DIR", "write every test's recording and an index page"),
}
_KINDS: dict[str, Any] = {_TABLE: "bool", _FAIL_OVER: "args"}
"""How the ini file's values are read; what is not named here is a string."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options, each also as an ini option of the same name."""
    group = parser.getgroup("vramscope", "memory of tensors (vramscope)")
    group.addoption("--vramscope", action="store_true", default=None, help="show the tests that use most memory")
    for name, (metavar, text) in _VALUES.items():
        group.addoption(f"--{name}", metavar=metavar, default=None, help=text)
    group.addoption(
        f"--{_FAIL_OVER}",
        metavar="[NAME:]VALUE",
        action="append",
        default=None,
        help="fail a test whose peak, category or module=PATH grew by more since the baseline: 5%%, activations:20MiB",
    )
    for name in (_TABLE, *_VALUES, _FAIL_OVER):
        for spelling in _spellings(name):
            parser.addini(spelling, f"as --{name}", type=_KINDS.get(name, "string"), default=None)


def _spellings(name: str) -> tuple[str, ...]:
    """An ini option's name with hyphens, and with underscores."""
    return tuple(dict.fromkeys((name, name.replace("-", "_"))))


def settings_of(config: pytest.Config) -> "Settings | None":
    """The settings, None where nothing was asked for.

    Raises:
        UsageError: an option is malformed or empty, or needs another one.
        RecordingError: the baseline is missing, broken or empty.
        OutputError: something cannot be written where it was asked for.
    """
    if all(_value(config, name) is None for name in (_TABLE, *_VALUES, _FAIL_OVER)):
        return None
    from vramscope.testing.settings import checked_settings

    return checked_settings(
        table=bool(_value(config, _TABLE)),
        top="10" if (top := _value(config, "vramscope-top")) is None else top,
        json_path=_path(config, "vramscope-json"),
        save_path=_path(config, "vramscope-save"),
        report_folder=_path(config, "vramscope-report"),
        compare_path=_path(config, "vramscope-compare"),
        fail_over=_value(config, _FAIL_OVER) or (),
        default_limit=_value(config, "vramscope-default-limit"),
    )


def _value(config: pytest.Config, name: str) -> Any:
    """An option from the command line, else from the ini file in either spelling; None where it is not given.

    An empty one is refused: a variable that was never set, most likely, and a gate that would silently be open.
    """
    given = config.getoption(name.replace("-", "_"))
    if given is None:
        found = (_ini_value(config, spelling) for spelling in _spellings(name))
        given = next((value for value in found if value is not None), None)
    if given is not None and given is not False and (not given or (isinstance(given, list) and not all(given))):
        raise UsageError(f"--{name} is empty: give it a value, or leave it out")
    return given


def _ini_value(config: pytest.Config, spelling: str) -> Any:
    try:
        return config.getini(spelling)
    except (ValueError, pytest.UsageError) as error:  # pytest 9.2 raises its own
        raise UsageError(f"{spelling} in the ini file: {error}: say true or false") from None


def _path(config: pytest.Config, name: str) -> Path | None:
    """A path as its author means it: from where pytest was started, or from the ini file's folder."""
    value = _value(config, name)
    if value == "-":
        raise UsageError(f"--{name} -: standard output is pytest's own: name a file or folder")
    given = config.getoption(name.replace("-", "_")) is not None
    return None if value is None else (config.invocation_params.dir if given else config.rootpath) / value
