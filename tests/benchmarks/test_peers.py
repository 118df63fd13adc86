"""The comparison with other tools: each runs and answers, exact tools are exact, and results add up from run to run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.growth import Curve, _one_recording, repeated
from benchmarks.peers.models import KERNEL, LITTLE, MODELS
from benchmarks.peers.overhead import UNPROFILED
from benchmarks.peers.results import add, tables
from benchmarks.storing import read_json
from helpers import assert_agrees
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger

FLOAT32 = 4
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results" / "benchmarks"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_quick_run_measures_and_prints_the_tables(tmp_path: Path) -> None:
    tools = ("--tool", "vramscope", "--tool", "MemTracker")
    result = run("--quick", "--only", "overhead", "--only", "accuracy", *tools, "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    sections = json.loads((tmp_path / "peers.json").read_text())["sections"]
    overhead, accuracy = (sections[name]["little"]["found"] for name in ("overhead", "accuracy"))
    assert set(overhead) == {UNPROFILED, "vramscope", "MemTracker"}
    assert overhead[UNPROFILED]["step_ratio"] == 1
    assert all(value["step_seconds"] > 0 for value in overhead.values())
    truth, ours = accuracy["truth"], accuracy["vramscope"]
    assert ours["peak_bytes"] == truth["peak_bytes"] > sum(truth["split"].values())
    assert ours["split"] == truth["split"]
    assert 0.5 < ours["backward_share"] <= 1
    assert (tmp_path / "peers.md").read_text() == result.stdout
    assert "| vramscope | 0 |" in result.stdout.replace(f"{ours['peak_bytes']:,} | ", "")


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--model", "nothing"], ["--only", "speed"]])
def test_wrong_use_is_refused(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_the_hand_derived_split() -> None:
    # embeddings 97 x 16 and 16 x 16; two layers of 12 x 16^2 weights and 13 x 16 more; a norm of 2 x 16
    parameters = 97 * 16 + 16 * 16 + 2 * (12 * 256 + 13 * 16) + 32
    assert LITTLE.truth == {
        Category.PARAMETERS: parameters * FLOAT32,
        Category.GRADIENTS: parameters * FLOAT32,
        Category.OPTIMIZER_STATE: (2 * parameters + 28) * FLOAT32,
    }


@pytest.mark.parametrize("name", ["tiny", "checkpointed", "lstm", "resnet18"])
def test_parameters_counted_by_hand_are_those_of_the_model(name: str) -> None:
    prepared = MODELS[name].prepare()
    assert prepared.parameter_count == MODELS[name].parameters
    assert len(list(prepared.model.parameters())) == MODELS[name].tensors


def test_a_repeated_recording_is_a_true_recording() -> None:
    one = _one_recording()
    thrice = Ledger(repeated(one, 3))
    assert len(thrice) == 3 * len(one.events)
    assert_agrees(thrice)
    assert [period.value for period in thrice.steps] == [0, 1, 2] * 3


def test_the_slope_of_a_linear_cost_is_one() -> None:
    assert Curve("events", "cost", (1, 10, 100, 1000), (5.0, 5.0, 10.0, 100.0)).slope == pytest.approx(1)


def test_measurements_are_added_to_what_is_there(tmp_path: Path) -> None:
    entry = {"step_seconds": 1.0, "step_ratio": 1.0, "report_seconds": 0.0, "rounds": 1}
    file = tmp_path / "peers.json"
    add(file, "overhead", "gpt2", {UNPROFILED: entry, "vramscope": {**entry, "step_ratio": 1.25}})
    content = add(file, "overhead", "tiny", {UNPROFILED: entry, "vramscope": {**entry, "step_ratio": 2.5}})
    assert set(content["sections"]["overhead"]) == {"gpt2", "tiny"}
    assert "| vramscope | 1.25 | 2.50 | 0.00 s |" in tables(content)


def test_the_kept_page_is_made_from_the_kept_figures() -> None:
    assert tables(read_json(KEPT / "peers.json")) == (KEPT / "peers.md").read_text(encoding="utf-8")


def test_the_readme_says_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = read_json(KEPT / "peers.json")["sections"]
    models = ("gpt2", "vit_b16", "resnet18", "lstm", "checkpointed", "tiny")
    for tool in ("vramscope", "MemTracker", "torch.profiler", "memray"):
        ratios = [sections["overhead"][model]["found"][tool]["step_ratio"] for model in models]
        assert f"| {tool} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |" in readme
    found = [entry["found"] for name, entry in sections["accuracy"].items() if name != KERNEL.name]

    def most_mib(tool: str) -> str:
        return f"{max(claims[tool]['own_memory_bytes'] for claims in found) / 2**20:.0f}"

    assert (
        f"at most {most_mib('MemTracker')} and {most_mib('memray')} MiB in any of the models, "
        f"vramscope {most_mib('vramscope')} MiB, torch.profiler {most_mib('torch.profiler')} MiB"
    ) in " ".join(readme.split())
