"""The line that says why no step was recorded."""

from typing import Any

import pytest

from vramscope.cli.no_step import why_no_step


def status(ended: dict[str, int], /, **optimizers: Any) -> dict[str, Any]:
    known = {
        "steps": {},
        "awaited": [],
        "steps_elsewhere": 0,
        "calls_elsewhere": 0,
        "models": 0,
        "children_seconds": 0.0,
    }
    return {"steps": ended, "optimizers": {**known, **optimizers}}


def test_one_that_was_waited_for_is_named() -> None:
    assert why_no_step(status({"inference": 1}, steps={"SGD": 5}, awaited=["Adam", "Adam"]), 1) == (
        "no training step ended: 5 optimizer steps (SGD) came, and Adam, which had not stepped, was waited for to take "
        "turns: train for more than 8 optimizer steps, or create Adam once it is to step"
    )


def test_turns_that_were_not_known_yet_are_told_of() -> None:
    assert why_no_step(status({}, steps={"SGD": 1, "Adam": 2}), 0) == (
        "no training step ended: 3 optimizer steps (SGD, Adam) came, and in what order they take turns was not known "
        "yet: train until each has stepped twice more"
    )


def test_steps_on_another_thread_are_told_of() -> None:
    assert why_no_step(status({}, steps_elsewhere=1, children_seconds=9.0), 1) == (
        "no step ended on the thread that imported torch, the only one that is recorded, and 1 optimizer step on "
        "others: train on the thread that imports torch"
    )


def test_modules_that_ran_on_another_thread_are_told_of() -> None:
    assert why_no_step(status({}, calls_elsewhere=3, children_seconds=9.0), 1) == (
        "no step ended on the thread that imported torch, the only one that is recorded, and modules ran on others: "
        "run them on the thread that imports torch"
    )


def test_where_a_model_ran_here_as_well_it_is_said_what_ends_a_step() -> None:
    assert why_no_step(status({}, calls_elsewhere=3, models=1), 1).endswith(
        "under torch.no_grad() with no backward pass before it; what modules did on other threads than the one that "
        "imported torch is not recorded"
    )


@pytest.mark.parametrize("found", [{}, {"steps": {}}, status({}, children_seconds=0.9)], ids=["killed", "old", "none"])
def test_without_any_optimizer_it_is_said_what_ends_a_step(found: dict[str, Any]) -> None:
    assert why_no_step(found, 1).endswith("under torch.no_grad() with no backward pass before it")


def test_child_processes_that_worked_are_told_of() -> None:
    assert why_no_step(status({}, children_seconds=2.4), 1).endswith(
        "before it; child processes, which took 2 s of processor time, are not recorded"
    )


@pytest.mark.parametrize(("first", "advice"), [(1, "; --steps 0:1 records from the start"), (0, "")])
def test_steps_outside_of_the_window_are_counted(first: int, advice: str) -> None:
    found = status({"training": 1}, steps={"SGD": 1}, steps_elsewhere=3)
    assert why_no_step(found, first) == f"no step ended in the window (1 seen in all){advice}"
