"""One-line texts about errors: what was raised, where in the user's code, and what name was probably meant."""

import difflib
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

_LONGEST_MESSAGE = 300
_TORCH = Path(torch.__file__).parent
_PACKAGE = Path(__file__).parents[1]
_MODELS = Path(__file__).parent / "models"
_LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def describe_error(error: BaseException) -> str:
    """``ValueError: too large (train.py:12)``: type, first line of the message, and where it was raised."""
    place = raised_at(error)
    return f"{summarize_error(error)} ({place})" if place else summarize_error(error)


def summarize_error(error: BaseException) -> str:
    """``ValueError: too large``: the type and the first line of the message, cut when it is very long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = lines[0] if len(lines[0]) <= _LONGEST_MESSAGE else lines[0][:_LONGEST_MESSAGE] + "…"
    return f"{type(error).__name__}: {text}"


def raised_at(error: BaseException) -> str | None:
    """``file:line`` of the innermost frame of the user's own code, else of the model library's, else None.

    The innermost frame of all usually lies in torch and says little about what the user can change.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{_display(Path(error.filename))}:{error.lineno}"
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    for belongs in (_is_user_code, _is_model_code):
        place = _innermost(frames, belongs)
        if place:
            return place
    return None


def _innermost(frames: list[tuple[Path, int | None]], belongs: Callable[[Path], bool]) -> str | None:
    for path, line in reversed(frames):
        if belongs(path):
            return f"{_display(path)}:{line}"
    return None


def _is_user_code(path: Path) -> bool:
    return _is_model_code(path) and not any(path.is_relative_to(folder) for folder in (*_LIBRARIES, _PACKAGE))


def _is_model_code(path: Path) -> bool:
    if path.is_relative_to(_MODELS):
        return True
    standard = path.is_relative_to(_LIBRARIES[0]) and "site-packages" not in path.parts
    generated = path.name.startswith("<")  # such as <frozen importlib._bootstrap>
    return not (generated or standard or path.is_relative_to(_TORCH) or path.is_relative_to(_PACKAGE))


def _display(path: Path) -> str:
    """The path as the user would type it: relative where it lies below the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'gpt2'?`` for a near miss, else the empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
