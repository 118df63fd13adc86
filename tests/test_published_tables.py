"""scripts/published_tables: what it keeps for `estimate` to name, without predicting anything."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from vramscope.predict.scores import read_scores

SCRIPT = Path(__file__).parents[1] / "scripts" / "published_tables"


@pytest.fixture
def kept(monkeypatch):
    """Runs the script on made-up predictions and gives what it would keep, one item for every time."""

    def run(in_a_process, *names):
        loader = SourceFileLoader("published_tables", str(SCRIPT))
        script = module_from_spec(spec_from_loader(loader.name, loader))
        monkeypatch.setitem(sys.modules, loader.name, script)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        loader.exec_module(script)
        times = []
        monkeypatch.setattr(script, "in_a_process", in_a_process)
        monkeypatch.setattr(script, "keep", times.append)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *names])
        script.main()
        return times

    return run


def test_what_is_kept_follows_from_the_table(kept):
    (scores,) = kept(lambda name: 10**9)
    rows = [(row["kind"], row["name"], row["figure"], row["measured_bytes"]) for row in scores]
    published = [row for row in read_scores() if row.source == "published"]
    assert rows == [(row.kind, row.name, row.figure, row.measured_bytes) for row in published]


@pytest.mark.parametrize("failing", ["zero", "timm-16", "timm-128"])
def test_a_row_that_fails_takes_no_figure_away(kept, failing, capsys):
    assert kept(lambda name: "ImportError: peft" if name == failing else 10**9) == []
    assert "failed: ImportError: peft" in capsys.readouterr().out


def test_some_rows_replace_nothing(kept):
    assert kept(lambda name: 10**9, "zero") == []
