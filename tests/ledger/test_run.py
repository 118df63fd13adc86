"""A script's run in figures, whose steps come in chunks."""

from dataclasses import replace

import pytest
from tests.run.synthetic import BLOCK_BYTES, LEAKED_BYTES, step_of_run

from helpers import MarkKind, Script
from vramscope.ledger.categories import Category
from vramscope.ledger.run import CountedSteps, StepRow, summarize_run
from vramscope.recorders.counters import with_counters
from vramscope.recording.parts import Part

COLD = step_of_run(-1, 401, 0)  # of index 0; 100 blocks at its peak


def test_a_cold_step_in_a_chunk_of_its_own_is_beside_the_steady_ones_and_never_among_them() -> None:
    steady = step_of_run(3, 101, 3 * LEAKED_BYTES)  # 50 blocks, and what steps 0 to 2 have left
    for parts in ([Part(0, 0, COLD), Part(1, 1, steady)], [Part(1, 1, steady), Part(2, 0, COLD)]):
        found = summarize_run(parts).passes["training"]
        assert (found.steady_steps, found.peak.bytes) == (1, 50 * BLOCK_BYTES + 3 * LEAKED_BYTES)
        assert found.cold is not None
        assert found.cold.peak_bytes == 100 * BLOCK_BYTES
        assert max(level.peak_bytes for level in found.phases.values()) == found.peak.bytes
        assert found.allocator.peak_bytes == found.peak.bytes
        assert found.allocator.max_disagreement_bytes == 0


def test_a_cold_step_alone_is_what_the_figures_are_of() -> None:
    found = summarize_run([Part(0, 0, COLD)]).passes["training"]
    assert (found.steady_steps, found.peak.bytes) == (0, 100 * BLOCK_BYTES)


def test_a_step_leaves_behind_what_it_made_less_what_was_found_gone_at_its_end() -> None:
    script = Script()
    script.seed(0x10, 100)  # what the step before has given
    with script.step(1):
        script.alloc(0x20, 100)
        script.gone(0x10)
    with script.step(2):
        script.alloc(0x30, 7)
    recording = replace(script.recording(), workload={"tool": "run", "pass": "inference", "modules": []})
    found = summarize_run([Part(0, 0, recording)])
    assert [step.retained_growth_bytes for step in found.steps] == [0, 7]
    # 100 + 100 while both are there; then 100 + 7
    assert [step.peak_bytes for step in found.steps] == [200, 107]


def part(index: int, script: Script, name: str | None, window: int = 0) -> Part:
    workload = {"tool": "run", "modules": [], **({"pass": name} if name else {})}
    return Part(index, window, replace(script.recording(), workload=workload))


def test_facts_are_those_of_all_parts_and_of_no_pass_by_itself() -> None:
    bare = Script().recording()
    first = replace(bare, environment={"torch": "2"}, notes=("one",), complete=False)
    first = replace(first, workload={"name": "x", "pass": "training", "modules": [["", "Net"]]})
    second = replace(bare, environment={"host": "h"}, notes=("one", "two"), workload={"rank": 1})
    found = summarize_run([Part(0, 0, first), Part(1, 0, second)])
    assert found.environment == {"torch": "2", "host": "h"}
    assert found.workload == {"name": "x", "rank": 1}
    assert (found.notes, found.complete) == (("one", "two"), False)


def test_steps_that_were_only_counted_and_further_processes() -> None:
    read = [
        *(("training step", 4), ("live bytes", 100)),
        *(("training step", 5), ("live bytes", 300)),
        *(("inference step", 0), ("live bytes", 50)),
        *(("training step", 6), ("live bytes", 200)),
        *(("rss of worker 1", 9000), ("rss of worker 1", 8000)),
    ]
    rows = [(time_ns, name, 0, value) for time_ns, (name, value) in enumerate(read)]
    found = summarize_run([Part(0, 0, with_counters(Script().recording(), rows))])
    assert found.counted == (
        CountedSteps("training", 3, 4, 6, first_bytes=100, last_bytes=200, highest_bytes=300),
        CountedSteps("inference", 1, 0, 0, first_bytes=50, last_bytes=50, highest_bytes=50),
    )
    assert found.children == {"worker 1": 9000}
    assert (found.windows, dict(found.passes)) == (0, {})


def test_a_step_that_says_no_pass_is_of_another() -> None:
    script = Script()
    with script.step(1):
        script.alloc(0x10, 9)
        script.alloc(0x20, 7)
        script.free(0x10, 9)
    found = summarize_run([part(0, script, None)])
    assert list(found.passes) == ["other"]
    assert found.steps == (StepRow(1, "other", peak_bytes=16, retained_growth_bytes=7),)


@pytest.mark.parametrize(("window", "parameters"), [(0, 100), (1, 0)])
def test_a_chunk_knows_what_the_one_before_it_in_its_window_has_left(window: int, parameters: int) -> None:
    training, inference = Script(), Script()
    with training.step(1):
        for address in (0x10, 0x30):
            training.alloc(address, 100)
            training.mark(MarkKind.PARAMETER, "a.weight", address)
        training.free(0x30, 100)
    with inference.step(2):
        inference.alloc(0x20, 7)
        inference.free(0x10, 100)
        inference.free(0x30, 5)  # of this one the chunk before has left nothing
    found = summarize_run([part(0, training, "training"), part(1, inference, "inference", window)])
    assert (list(found.passes), found.windows) == (["training", "inference"], 1 + window)
    by_category = found.passes["inference"].peak.by_category
    assert by_category[Category.PARAMETERS] == parameters
    assert sum(by_category.values()) == 100 + 7 + 5


def stretch(step: int, activation: int, gradient: int) -> Script:
    script = Script()
    with script.step(step):
        with script.phase("forward"), script.operator("aten::mul"):
            script.alloc(0x10, activation)
        with script.phase("backward"):
            script.alloc(0x20, gradient)
            script.mark(MarkKind.GRADIENT, "weight", 0x20)
        script.free(0x10, activation)
        script.free(0x20, gradient)
    return script


def test_a_pass_that_comes_back_has_the_highest_of_each_figure() -> None:
    found = summarize_run(
        [
            part(0, stretch(1, activation=10, gradient=30), "training"),
            part(1, stretch(2, activation=5, gradient=5), "inference"),
            part(2, stretch(3, activation=50, gradient=20), "training"),
        ]
    ).passes["training"]
    assert found.peak.bytes == found.allocator.peak_bytes == 50 + 20
    assert found.gradients_peak_bytes == 30  # of the first stretch
    assert {name: level.peak_bytes for name, level in found.phases.items()} == {"forward": 50, "backward": 70}
    assert (found.steady_steps, found.allocator.events) == (2, 2 * 4)
