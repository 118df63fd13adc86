"""A step that holds more calls of modules than fit into memory is given up, and nothing of the script changes."""

import pytest
from tests.run.scripts import plainly, run

# nine calls fit, and a training step has four: of the model and of its three modules
SCRIPT = """
import sys, torch
from torch import nn
from torch.utils.checkpoint import checkpoint
if "vramscope" in sys.modules:
    from vramscope.recorders.scripts import recorder as script
    script.MOST_CALLS = 9
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
def rollout():
    with torch.no_grad():
        for turn in range(4):
            model(torch.randn(4, 16))
class Fails(nn.Module):
    def forward(self, x):
        model(x), model(x), model(x)
        raise ValueError("not this time")
fails = Fails()
{prepare}
for step in range(6):
    if step == 1:
        {more}
    loss = model(torch.randn(8, 16)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(step, loss.item())
"""
IN_BACKWARD = (
    "(checkpoint(model, checkpoint(model, torch.randn(8, 16, requires_grad=True), use_reentrant={0}), "
    "use_reentrant={0}).sum() + checkpoint(model, torch.randn(8, 16, requires_grad=True), use_reentrant={0}).sum())"
    ".backward()"
)
FORMS = {
    "evaluation": ("", "rollout()"),
    "within a module": (
        "",
        "nn.ModuleList([fails]); outer = nn.Sequential(model, model, model); outer(torch.randn(8, 16))",
    ),
    "in a module that raises": ("", "\n        try: fails(torch.ones(4, 16))\n        except ValueError: pass"),
    "in a backward pass": ("", IN_BACKWARD.format(False)),
    "in a reentrant backward pass": ("", IN_BACKWARD.format(True)),
    "in a scope": ("", "\n        with torch.profiler.record_function('rollout'): rollout()"),
    "while another model is compiled": (
        "other = torch.compile(nn.Linear(16, 16), backend='aot_eager'); other(torch.ones(1, 16))",
        "[other(torch.ones(4, 16)) for turn in range(12)]",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_overfull_step_is_given_up_and_the_next_ones_are_recorded(tmp_path, form: str) -> None:
    prepare, more = FORMS[form]
    text = SCRIPT.format(prepare=prepare, more=more)
    finished = run(tmp_path, text)
    assert (finished.code, finished.stdout) == (0, plainly(tmp_path, text).stdout)
    document = finished.document
    assert [row["index"] for row in document["steps"]] == [2, 3]
    (note,) = document["notes"]
    assert "more than 200,000 calls of modules" in note
    assert "training step 1; --steps A:B" in note
    # it says so to who reads the terminal too, whose lines are wrapped
    assert note in " ".join(finished.stderr.split())
    (counted,) = document["counted_steps"]
    assert (counted["first_index"], counted["last_index"], counted["steps"]) == (0, 5, 4)  # 0, 1, 4 and 5


def test_where_no_other_step_was_wanted_the_reason_is_all_there_is(tmp_path) -> None:
    finished = run(tmp_path, SCRIPT.format(prepare="", more="rollout()"), "--steps", "1:2")
    assert finished.code == 0
    assert finished.stderr.startswith("vramscope: nothing was recorded: because it held more than")
    assert "training step 1; --steps A:B" in finished.stderr


def test_calls_of_a_step_are_those_since_it_began(tmp_path) -> None:
    """Four in each step, and in one profiler, since the scope that is open lets none begin anew."""
    body = SCRIPT.format(prepare="", more="pass")
    before, _, loop = body.partition("for step in")
    text = (
        before + "with torch.profiler.record_function('training'):\n  for step in" + loop.replace("\n    ", "\n      ")
    )
    finished = run(tmp_path, text, "--steps", "0:5")
    assert [row["index"] for row in finished.document["steps"]] == list(range(5))
    assert finished.document["notes"] == []


def test_what_was_recorded_of_it_is_let_go_of_at_once(tmp_path) -> None:
    prepare = "import gc; gc.disable()\nif 'vramscope' in sys.modules: script.MOST_CALLS = 4000"
    text = SCRIPT.format(prepare=prepare, more="[rollout() for round in range(260)]")
    (counted,) = run(tmp_path, text, "-q").document["counted_steps"]
    # 4,000 calls take some 60 MB while they are recorded
    assert counted["highest_bytes"] - counted["first_bytes"] < 20_000_000
