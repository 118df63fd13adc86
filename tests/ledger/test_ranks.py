"""Ranks of a distributed run of which some recorded nothing."""

from dataclasses import replace

import pytest
from tests.run.synthetic import BLOCK_BYTES, LEAKED_BYTES, step_of_run

from helpers import Script
from vramscope.errors import UsageError
from vramscope.ledger.ranks import merge_ranks, missing_ranks, worst_rank
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


def test_the_worst_rank_has_the_highest_peak_of_any_pass() -> None:
    inference = step_of_run(1, 11, 0)
    inference = replace(inference, workload={**inference.workload, "pass": "inference"})
    larger = summarize_run([Part(0, 0, step_of_run(0, 121, 0)), Part(1, 0, inference)])
    runs = {0: run_of(step_of_run(0, 101, 0)), 1: larger}
    assert worst_rank(runs) == 1
    merged = merge_ranks(runs)
    assert merged["training"].peak_bytes == {0: 50 * BLOCK_BYTES, 1: 60 * BLOCK_BYTES}
    assert (merged["training"].worst_rank, merged["training"].imbalance) == (1, 60 / 55)
    assert merged["inference"].peak_bytes == {1: 5 * BLOCK_BYTES + LEAKED_BYTES}  # what step 0 has left


def test_ranks_that_hold_nothing_are_balanced() -> None:
    script = Script()
    with script.step(1):
        pass
    nothing = run_of(script.recording())
    assert merge_ranks({0: nothing, 1: nothing})["other"].imbalance == 1.0


def test_ranks_that_left_no_recording_are_missing() -> None:
    recording = step_of_run(0, 11, 0)
    run = run_of(replace(recording, workload={**recording.workload, "ranks": 4}))
    assert missing_ranks({0: run, 2: run}) == (1, 3)


def test_where_no_rank_recorded_a_step_the_first_is_shown() -> None:
    assert worst_rank({2: run_of(counted()), 1: run_of(counted())}) == 1
    assert merge_ranks({1: run_of(counted())}) == {}


def test_a_run_whose_steps_were_only_counted_has_no_window() -> None:
    with pytest.raises(UsageError, match="--window 0: the recording has none: its steps were only counted"):
        compare_window([Part(0, 0, counted())], 0)
