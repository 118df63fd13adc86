"""Ranks of a distributed run of which some recorded nothing."""

from dataclasses import replace

import pytest
from tests.run.synthetic import step_of_run

from vramscope.errors import UsageError
from vramscope.ledger.ranks import merge_ranks, worst_rank
from vramscope.ledger.run import RunSummary, summarize_run
from vramscope.ledger.run_window import compare_window
from vramscope.recording.parts import Part
from vramscope.recording.recording import Counters, Events, Recording, Scopes


def counted() -> Recording:
    """A step at whose end live bytes were read, and nothing else."""
    recording = step_of_run(0, 3, 0)
    return replace(
        recording,
        scopes=Scopes.from_rows([]),
        events=Events.from_rows([]),
        counters=Counters.from_rows([(1, 0, 0, 1), (2, 1, 0, 77)]),
        strings=("training step", "live bytes"),
    )


def run_of(recording: Recording) -> RunSummary:
    return summarize_run([Part(0, 0, recording)])


def test_a_rank_that_recorded_no_step_is_never_the_worst() -> None:
    runs = {0: run_of(counted()), 1: run_of(step_of_run(0, 401, 0))}
    assert runs[0].counted[0].last_bytes == 77
    assert worst_rank(runs) == 1
    assert merge_ranks(runs)["training"].peak_bytes.keys() == {1}


def test_where_no_rank_recorded_a_step_the_first_is_shown() -> None:
    assert worst_rank({2: run_of(counted()), 1: run_of(counted())}) == 1
    assert merge_ranks({1: run_of(counted())}) == {}


def test_a_run_whose_steps_were_only_counted_has_no_window() -> None:
    with pytest.raises(UsageError, match="--window 0: the recording has none: its steps were only counted"):
        compare_window([Part(0, 0, counted())], 0)
