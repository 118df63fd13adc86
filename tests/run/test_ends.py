"""However a script ends: its exit code is ours, and what was recorded can be read."""

import signal

import pytest
from tests.run.scripts import TRAINING, Finished, plainly, require_exact, run

from vramscope.recording.file import iterate_windows, read_recording

OUT_OF_MEMORY_IN_DDP = """
import os, torch
from torch import nn
torch.distributed.init_process_group("gloo", init_method=f"file://{os.getcwd()}/ranks", rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(3):
    loss = model(torch.ones(8, 64)).square().mean()
    if step == 1:
        torch.empty(2**48, 4)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LOOP = TRAINING + "for step, loss in train(8):\n    print(step, flush=True)\n    {end}\n"


def ended(tmp_path, end: str) -> Finished:
    return run(tmp_path, LOOP.format(end=end))


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("if step == 5: sys.exit(7)", 7),
        ("if step == 5: raise KeyError('no such key')", 1),
        ("if step == 5: raise KeyboardInterrupt", 130),
    ],
)
def test_a_script_that_ends_by_itself(tmp_path, end: str, code: int) -> None:
    finished = ended(tmp_path, end)
    assert finished.code == code
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert finished.document["exit_code"] == code
    assert finished.recording.is_file()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_script_that_a_signal_ends(tmp_path, name: str) -> None:
    finished = ended(tmp_path, f"if step == 5: os.kill(os.getpid(), signal.{name})")
    assert finished.code == 128 + getattr(signal, name)
    assert not finished.recording.exists()
    recording = read_recording(finished.recording)
    assert not recording.complete
    assert "never sealed" in recording.notes[-1]
    assert finished.document["complete"] is False
    require_exact(finished.document, "training")


def test_a_script_that_runs_out_of_memory_is_explained(tmp_path) -> None:
    finished = ended(tmp_path, "if step == 2: model(torch.empty(2**48, 4))")
    assert finished.code == 1
    assert "out of memory on cpu" in finished.stderr
    assert "asked for, by aten::empty" in finished.stderr
    assert finished.document["complete"] is False
    assert any("memory ran out in its last step" in note for note in finished.document["notes"])


def test_a_step_that_runs_out_of_memory_is_kept_as_any_other(tmp_path) -> None:
    finished = run(tmp_path, OUT_OF_MEMORY_IN_DDP)
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1]
    # DDP makes its bucket anew in the forward of step 1: 64 * 10 weights and 10 biases of 4 bytes
    assert finished.document["passes"]["training"]["peak"]["by_category"]["communication"] == 4 * 650


def test_memory_that_runs_out_in_a_step_that_was_not_recorded_names_the_step(tmp_path) -> None:
    finished = ended(tmp_path, "if step == 5: model(torch.empty(2**48, 4))")  # steps 0 to 5 are over then
    assert finished.code == 1
    assert "out of memory on cpu" not in finished.stderr
    assert "memory ran out in step 6, which was not recorded: run again with --steps 6:7" in finished.stderr


def test_a_kill_within_the_window_keeps_the_finished_steps(tmp_path) -> None:
    finished = ended(tmp_path, "if step == 2: os.kill(os.getpid(), signal.SIGKILL)")
    assert finished.code == 128 + signal.SIGKILL
    assert [step["index"] for step in finished.document["steps"]] == [1, 2]


def test_what_a_script_prints_is_its_own(tmp_path) -> None:
    text = LOOP.format(end="raise KeyError(step)")
    alone = plainly(tmp_path, text)
    watched = run(tmp_path, text, "-q")
    assert watched.stdout == alone.stdout
    # one step has ended and none is in the window: beside the script's own words there is nothing to say
    assert watched.stderr == alone.stderr
    assert watched.code == alone.returncode


def test_a_script_finds_what_python_gives_it(tmp_path) -> None:
    text = """
import sys, os, json, pickle
class Local: pass
print(json.dumps([sys.argv, __name__, __file__, sys.path[0], os.getcwd(), __spec__ is None, "torch" in sys.modules]))
print(pickle.loads(pickle.dumps(Local)) is Local, sys.modules["__main__"].Local is Local)
print(sys.stdin.read())
"""
    alone = plainly(tmp_path, text, "--epochs", "1", "-q", "--debug", stdin="some words")
    watched = run(tmp_path, text, "-q", arguments=("--epochs", "1", "-q", "--debug"), stdin="some words")
    assert watched.stdout == alone.stdout
    assert (watched.code, watched.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["-m", "no_such_module_at_all"], ["--nonsense"], ["--steps", "5", "script.py"]])
def test_what_cannot_be_started_is_2(tmp_path, arguments: list[str]) -> None:
    finished = run(tmp_path, "print('never')", *arguments)
    assert (finished.code, finished.stdout) == (2, "")
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("options", [(), ("--steps", "0:1"), ("--all",)], ids=str)
def test_where_no_step_ended_it_is_said_what_ends_one(tmp_path, options: tuple[str, ...]) -> None:
    finished = run(tmp_path, "import torch\nfor step in range(3):\n    torch.nn.Linear(2, 2)(torch.ones(2))", *options)
    assert finished.stderr == (
        "vramscope: nothing was recorded: no step ended; what ends one is a step of an optimizer of torch.optim, or a "
        "model's forward under torch.no_grad() with no backward pass before it\n"
    )


@pytest.mark.parametrize(
    "end", ["os._exit(4)", "os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])"], ids=str
)
def test_a_process_that_ended_at_once_is_told_of(tmp_path, end: str) -> None:
    finished = run(tmp_path, f"import os, sys, torch\n{end}")
    assert (finished.code, finished.stderr) == (
        4,
        "vramscope: nothing was recorded: before a step was, the script's process ended at once or became another "
        "program (os._exit, os.execv, a signal)\n",
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_script_without_torch_runs_and_is_told_of(tmp_path) -> None:
    finished = run(tmp_path, "print('hello')")
    assert (finished.code, finished.stdout) == (0, "hello\n")
    assert finished.stderr == "vramscope: nothing was recorded: the script never imported torch\n"


def test_parts_are_on_disk_as_steps_end(tmp_path) -> None:
    look = "if step == 3: print(len([n for n in os.listdir('out/run.vram.part') if n.endswith('.npz')]))"
    finished = ended(tmp_path, look)
    assert finished.stdout.splitlines() == ["0", "1", "2", "3", "3", "4", "5", "6", "7"]
    assert [part.window for part in iterate_windows(finished.recording)] == [0, 0, 0, 0]
