"""The collector of cyclic garbage: it rests while modules are loaded, and works as ever in whatever is measured."""

import gc
import json

import pytest
from tests.cli.command import vramscope
from tests.processes import python

from vramscope.collector import paused

LOOKS = """
import gc, json, os
import torch
from pathlib import Path

def make():
    found = {"enabled": gc.isenabled(), "frozen": gc.get_freeze_count(), "full": gc.get_stats()[2]["collections"]}
    Path(f"seen-{os.getpid()}.json").write_text(json.dumps(found))
    return torch.nn.Linear(4, 4)
"""
LOADS = """
import gc, json
from vramscope.collector import loading
with loading():
    import torch
old = len(gc.get_objects(generation=2))
print(json.dumps([gc.isenabled(), old > 100_000, gc.get_freeze_count(), gc.get_stats()[2]["collections"]]))
"""


@pytest.mark.parametrize("enabled", [True, False])
def test_it_is_left_as_it_was_found(enabled):
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError), paused():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_nothing_is_collected_while_a_command_loads_torch():
    assert json.loads(python("-c", LOADS)) == [True, True, 0, 0]


def test_a_measured_pass_finds_it_at_work(tmp_path):
    (tmp_path / "looks.py").write_text(LOOKS)
    finished = vramscope(
        "compare", "looks.py:make", "--input", "input=float32[2,4]", "--device", "cpu", "-q", cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    seen = [json.loads(path.read_text()) for path in tmp_path.glob("seen-*.json")]
    assert len(seen) == 8  # events, lines, RSS and Python's heap of both passes
    assert all(found == {"enabled": True, "frozen": 0, "full": 0} for found in seen), seen
