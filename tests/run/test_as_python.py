"""A script meets what it would meet under ``python``: the same output, errors and exit code, however odd it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.run.scripts import plainly, run

TRAINS = """
import torch
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
SPAWNED = """
import multiprocessing, pickle, sys
class Job:
    def __init__(self, number): self.number = number
def work(job): return job.number + 1, __name__, type(job).__module__
if __name__ == "__main__":
    print(pickle.loads(pickle.dumps(Job(1))).number)
    for method in ("spawn", "fork"):
        with multiprocessing.get_context(method).Pool(1) as pool: print(pool.map(work, [Job(1)]))
"""
FORKED = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks where threads run, as one of torch's profiler does
import atexit, os, torch
from torch import nn
model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
atexit.register(lambda: print("bye", flush=True))
for step in range(6):
    if step in (2, 5):  # while a profiler runs, and after one has run
        child = os.fork()
        if not child:
            raise SystemExit(4) if step == 2 else KeyError(step)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""
OWN_SIGNALS = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: print("got", number, flush=True))
    os.kill(os.getpid(), number)
"""
SCRIPTS_ITS_MODEL = """
import warnings
warnings.simplefilter("ignore")  # TorchScript is going away
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
with torch.no_grad():
    for step in range(9):  # more than are recorded: from then on the model has hooks of its own
        model(torch.ones(2, 4))
print(torch.jit.script(model)(torch.ones(2, 4)).shape)
"""
OWN_TRACE = """
import sys, torch
from torch import nn
model = nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
kept, calls = [], set()
def trace(frame, event, argument): calls.add(frame.f_code.co_name)
sys.settrace(trace)
def called(step): kept.append(torch.zeros(10000))
for step in range(30):
    optimizer.zero_grad()
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    called(step)
    assert "called" in calls and sys.gettrace() is trace
    calls.clear()
"""
CASES = {
    "names": "print(sorted(globals()), __doc__, __file__, __spec__, __annotations__)",
    "arguments": "import sys; print(sys.argv, sys.orig_argv[1:], sys.path[0])",
    "pickling and processes": SPAWNED,
    "a failing import": "import no_such_module_at_all",
    "a syntax error": "def f(:",
    "an indentation error": "if 1:\nx",
    "a chained error": "try: 1 / 0\nexcept ZeroDivisionError as error: raise KeyError(1) from error",
    "a hook of its own": "import sys\ndef hook(*a): sys.exit(5)\nsys.excepthook = hook\nraise ValueError(1)",
    "a hook that fails": "import sys\ndef hook(*a): raise OSError\nsys.excepthook = hook\nraise ValueError(1)",
    "an exit with words": "raise SystemExit('words')",
    "an exit with None": "import sys; sys.exit(None)",
    "an exit with -1": "import sys; sys.exit(-1)",
    "at the end": "import atexit\natexit.register(lambda: print('bye', __name__))\nraise KeyboardInterrupt",
    "a thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print(__name__))).start()",
    "its own exec": "open('other', 'w').write('print(__file__)'); exec(open('other').read())",
    "no goodbye": "import os; print(1, flush=True); os._exit(9)",
    "its own signals": OWN_SIGNALS,
    "forked and left": FORKED,
    "its model in TorchScript": SCRIPTS_ITS_MODEL,
}


@pytest.mark.parametrize("name", CASES)
def test_a_script_runs_as_under_python(tmp_path: Path, name: str) -> None:
    arguments = ("--", "-m", "a b", "", "-q", "--json")
    alone = plainly(tmp_path, CASES[name], *arguments)
    watched = run(tmp_path, CASES[name], "-q", arguments=arguments)
    assert (watched.stdout, watched.stderr) == (alone.stdout, alone.stderr)
    assert watched.code == (alone.returncode if alone.returncode >= 0 else 128 - alone.returncode)


def test_a_trace_function_of_the_script_costs_the_lines_and_is_told_of(tmp_path: Path) -> None:
    alone, watched = plainly(tmp_path, OWN_TRACE), run(tmp_path, OWN_TRACE, "-q")
    assert (watched.code, watched.stdout, watched.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    document = watched.document
    assert document["windows"] == 2
    assert any("trace function of its own" in note for note in document["notes"])
    assert {row["line"] for row in document["growth"]} == {0}


FILES = {
    "package/__init__.py": "",
    "package/__main__.py": "import sys; from . import near; from .below.deep import Y; print(__package__, sys.argv, Y)",
    "package/near.py": "X = 1",
    "package/fails.py": "def f(): raise ValueError\nf()",
    "package/below/__init__.py": "",
    "package/below/deep.py": "from ..near import X\nY = X + 1\nif __name__ == '__main__': print(__spec__.name, Y)",
    "broken/__init__.py": "import no_such_module_at_all",
    "broken/part.py": "",
    "below/script.py": "import sys, beside; print(sys.path[0], __file__, beside.X)",
    "below/beside.py": "X = 1",
    "folder/__main__.py": "import sys, beside; print(sys.argv, sys.path[0], __package__, beside.X)",
    "folder/beside.py": "X = 2",
    "a name.txt": "import sys; print(sys.argv)",
}
CALLS = [
    ("-m", "package", "-q", "--steps", "5", "-o", "x", "-h"),
    ("-m", "package.fails"),
    ("-m", "package.below.deep"),
    ("-m", "package.absent"),
    ("-m", "broken.part"),
    ("./below/../below/script.py",),
    ("link.py",),
    ("folder", "-h"),
    ("a name.txt", "-h"),
    ("/dev/stdin",),
]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_program_is_found_as_python_finds_it(tmp_path: Path, call: tuple[str, ...]) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link.py").symlink_to("below/script.py")
    found = [
        subprocess.run(
            [sys.executable, *before, *call],
            cwd=tmp_path,
            input="print(__file__)",
            capture_output=True,
            text=True,
            env=dict(os.environ),
            check=False,
        )
        for before in ((), ("-m", "vramscope", "run", "-q"))
    ]
    alone, watched = found
    assert (watched.returncode, watched.stdout, watched.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_ctrl_c_reaches_the_script_alone(tmp_path: Path) -> None:
    """A signal that only vramscope gets is passed on, and what the script makes of it stands."""
    text = """
import os, signal, sys, time
def stop(number, frame): print("stopping", flush=True); sys.exit(6)
signal.signal(signal.SIGINT, stop)
os.write(1, b"ready\\n")  # print may still be at it when the signal comes
time.sleep(60)
"""
    (tmp_path / "script.py").write_text(text)
    command = [sys.executable, "-m", "vramscope", "run", "-q", "script.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("stopping\n", None)
    assert process.returncode == 6


def test_who_asks_where_torch_is_has_not_loaded_it(tmp_path) -> None:
    text = """
import importlib.util
print(importlib.util.find_spec("torch").name)
"""
    told = "print(type(torch.__loader__).__name__, torch.__spec__.loader is torch.__loader__)"
    finished = run(tmp_path, text + TRAINS + told, "-q")
    assert finished.stdout == "torch\nSourceFileLoader True\n"
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]


def test_finders_of_the_script_find_torch_too(tmp_path) -> None:
    text = """
import sys
class Asks:
    def find_spec(self, name, path=None, target=None):
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        return next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
sys.meta_path.insert(0, Asks())
"""
    finished = run(tmp_path, text + TRAINS, "-q")
    assert finished.code == 0, finished.stderr
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
