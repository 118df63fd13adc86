"""A script's run in figures, whose steps come in chunks."""

from dataclasses import replace

from tests.run.synthetic import BLOCK_BYTES, LEAKED_BYTES, step_of_run

from helpers import Script
from vramscope.ledger.run import summarize_run
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
