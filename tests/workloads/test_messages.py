import json
from pathlib import Path

import pytest
import torch

from vramscope.workloads.messages import describe_error, raised_at, suggestion, summarize_error


def raise_in(path: Path, source: str) -> BaseException:
    path.write_text(source, encoding="utf-8")
    try:
        exec(compile(source, str(path), "exec"), {"torch": torch, "json": json})
    except BaseException as error:  # noqa: BLE001 - returned to the test
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("too large"), "ValueError: too large"),
        (ValueError("\n\n  first \nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 301), "ValueError: " + "x" * 300 + "…"),
        (KeyError("name"), "KeyError: 'name'"),
    ],
)
def test_a_summary_is_one_line(error: Exception, text: str) -> None:
    assert summarize_error(error) == text


def test_the_place_is_the_users_own_line(tmp_path: Path) -> None:
    source = "def deeper():\n    raise ValueError('no')\n\ndeeper()\n"
    error = raise_in(tmp_path / "user.py", source)
    assert describe_error(error) == f"ValueError: no ({tmp_path / 'user.py'}:2)"


def test_frames_in_torch_are_passed_over(tmp_path: Path) -> None:
    error = raise_in(tmp_path / "user.py", "\ntorch.nn.Linear(2, 3)(torch.zeros(1, 5))\n")
    assert raised_at(error) == f"{tmp_path / 'user.py'}:2"


def test_frames_in_the_standard_library_are_passed_over(tmp_path: Path) -> None:
    error = raise_in(tmp_path / "user.py", "\n\njson.loads('{')\n")
    assert raised_at(error) == f"{tmp_path / 'user.py'}:3"


def test_a_syntax_error_names_its_own_line(tmp_path: Path) -> None:
    error = raise_in(tmp_path / "user.py", "x = 1\ny = = 2\n")
    assert raised_at(error) == f"{tmp_path / 'user.py'}:2"


def test_a_place_below_the_working_directory_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert raised_at(raise_in(tmp_path / "user.py", "1 / 0")) == "user.py:1"


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert raised_at(ValueError()) is None


def test_suggestion() -> None:
    assert suggestion("gtp2", ["gpt2", "mlp"]) == "; did you mean 'gpt2'?"
    assert suggestion("zebra", ["gpt2", "mlp"]) == ""
