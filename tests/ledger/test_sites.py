"""Sites: which source line holds what, summing to the composition whatever is known of lines."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import MarkKind, Script, record_pass
from vramscope.ledger.blocks import BEFORE
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.sites import NO_PYTHON_FRAME, Site, sites_of
from vramscope.recorders.joining import with_lines
from vramscope.workloads.inputs import InputSpec

ACTIVATIONS, ACTIVATION_GRADIENTS = Category.ACTIVATIONS, Category.ACTIVATION_GRADIENTS


def sites_at(ledger: Ledger, event: int, device: int = 0) -> tuple[Site, ...]:
    """Of everything alive just after an event."""
    return sites_of(ledger, ledger.blocks.alive_after(event) & (ledger.blocks.device == device))


class LinedScript(Script):
    """A script that knows which lines are running, and from where they were called."""

    @contextmanager
    def stack(self, *files: str) -> Iterator[None]:
        """Frames of these files, the caller first, on lines 1, 2 and so on."""
        with ExitStack() as frames:
            for line, file in enumerate(files, start=1):
                frames.enter_context(self.line(line, file))
            yield


def at_end(script: Script, device: int = 0) -> tuple[Site, ...]:
    """The sites after the last event; their sums are checked on the way."""
    ledger = script.ledger()
    event = len(ledger) - 1
    sites = sites_at(ledger, event, device)
    assert_sums(ledger, event, sites, device)
    return sites


def assert_sums(ledger: Ledger, event: int, sites: Sequence[Site], device: int = 0) -> None:
    """Per category the sites add up to the composition, and they come largest first."""
    for category, size in ledger.composition(event, device).items():
        assert sum(site.bytes_at_peak for site in sites if site.category == category) == size
    sizes = [site.bytes_at_peak for site in sites]
    assert sizes == sorted(sizes, reverse=True)


def model_line(line: int, size: int, category: Category = ACTIVATIONS) -> Site:
    return Site("model.py", line, "forward", size, category)


def unknown_line(size: int, category: Category) -> Site:
    return Site(NO_PYTHON_FRAME, 0, "", size, category)


def test_blocks_are_summed_by_line_and_category() -> None:
    script = LinedScript()
    with script.phase("forward"):
        for address, line, size in ((1, 5, 10), (2, 5, 20), (3, 6, 40)):
            with script.operator("aten::mm"), script.line(line):
                script.alloc(address, size)
        with script.line(6):
            script.alloc(4, 5)
            script.mark(MarkKind.BUFFER, "b", 4)
        script.alloc(5, 1000)
        script.free(5, 1000)
    assert at_end(script) == (model_line(6, 40), model_line(5, 30), model_line(6, 5, Category.BUFFERS))


def test_what_has_no_line_is_shown() -> None:
    script = LinedScript()
    with script.phase("forward"), script.operator("aten::mm"):
        script.alloc(1, 10)
    assert at_end(script) == (unknown_line(10, ACTIVATIONS),)


def test_the_beginning_and_seeds_are_shown() -> None:
    script = Script()
    script.seed(1, 64)
    ledger = script.ledger()
    sites = sites_at(ledger, BEFORE)
    assert sites == (unknown_line(64, Category.UNATTRIBUTED),)
    assert_sums(ledger, BEFORE, sites)


def test_nothing_alive_has_no_sites() -> None:
    assert sites_at(Script().ledger(), BEFORE) == ()


def test_each_device_has_its_own_sites() -> None:
    script = LinedScript(devices=2)
    with script.phase("forward"), script.operator("aten::mm"), script.line(3):
        script.alloc(1, 10, device=0)
        script.alloc(1, 70, device=1)
    assert at_end(script, device=0) == (model_line(3, 10),)
    assert at_end(script, device=1) == (model_line(3, 70),)


# -- backward ----------------------------------------------------------------------------------------------------------


def forward(script: LinedScript, line: int | None = 5, sequence: int = 7) -> None:
    """An operator that makes the node number ``sequence`` and an output of 10 bytes, which lives no longer."""
    with script.operator("aten::linear", sequence), script.operator("aten::addmm", sequence):
        if line is None:
            script.alloc(1, 10)
        else:
            with script.line(line):
                script.alloc(1, 10)
        script.free(1, 10)


def test_a_backward_node_belongs_to_the_line_of_its_forward_operator() -> None:
    script = LinedScript()
    with script.phase("forward"):
        forward(script)
    with script.phase("backward"), script.node("AddmmBackward0", 7), script.operator("aten::mm"):
        script.alloc(2, 100)
    assert at_end(script) == (model_line(5, 100, ACTIVATION_GRADIENTS),)


def test_the_forward_line_goes_before_the_line_that_called_backward() -> None:
    script = LinedScript()
    with script.phase("forward"):
        forward(script)
    with script.phase("backward"):
        with script.node("AddmmBackward0", 7), script.operator("aten::mm"), script.line(90, "train.py", "main"):
            script.alloc(2, 100)
        with script.node("SumBackward0", 8), script.operator("aten::expand"), script.line(90, "train.py", "main"):
            script.alloc(3, 200)
    expected = Site("train.py", 90, "main", 200, ACTIVATION_GRADIENTS)  # nothing is known of its forward operator
    assert at_end(script) == (expected, model_line(5, 100, ACTIVATION_GRADIENTS))


def test_a_backward_node_of_a_forward_operator_without_a_line_has_none() -> None:
    script = LinedScript()
    with script.phase("forward"):
        forward(script, line=None)
    with script.phase("backward"), script.node("AddmmBackward0", 7), script.operator("aten::mm"):
        script.alloc(2, 100)
    assert at_end(script) == (unknown_line(100, ACTIVATION_GRADIENTS),)


def test_an_operator_that_allocates_nothing_can_still_tell_its_line() -> None:
    script = LinedScript()
    with script.phase("forward"), script.operator("aten::select", 7), script.line(11):
        pass
    with script.phase("backward"), script.node("SelectBackward0", 7), script.operator("aten::zeros"):
        script.alloc(2, 100)
    assert at_end(script) == (model_line(11, 100, ACTIVATION_GRADIENTS),)


def test_what_is_recomputed_belongs_to_the_line_that_runs_again() -> None:
    script = LinedScript()
    with script.phase("forward"):
        forward(script, line=3)  # the call of the checkpoint
    with (
        script.phase("backward"),
        script.node("CheckpointBackward", 7),
        script.module("block"),
        script.operator("aten::gelu", 9),
        script.line(21),
    ):
        script.alloc(2, 100)
    assert at_end(script) == (model_line(21, 100),)


# -- stacks, as snapshots have them ------------------------------------------------------------------------------------

TORCH = "/venv/lib/python3.12/site-packages/torch/nn/modules/linear.py"
LIBRARY = "/venv/lib/python3.12/site-packages/transformers/models/gpt2/modeling_gpt2.py"
STANDARD = "/usr/lib/python3.12/contextlib.py"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("train.py", "model.py", TORCH), "model.py"),
        (("train.py", LIBRARY, TORCH), "train.py"),
        ((LIBRARY, TORCH), LIBRARY),
        ((STANDARD, LIBRARY, STANDARD, TORCH), LIBRARY),
        (("train.py", TORCH, STANDARD), "train.py"),
        (("model.py", TORCH, "model.py", TORCH), "model.py"),
        (("train.py", "<string>", "??", "torch/csrc/autograd/engine.cpp"), "train.py"),
        (("C:\\env\\site-packages\\torch\\nn\\functional.py", "C:\\me\\model.py"), "C:\\me\\model.py"),
        (("/home_of_ada/torch/train.py", TORCH), "/home_of_ada/torch/train.py"),
        ((TORCH, STANDARD), NO_PYTHON_FRAME),
    ],
)
def test_the_innermost_frame_of_the_users_own_is_told(files: tuple[str, ...], told: str) -> None:
    script = LinedScript()
    with script.stack(*files):
        script.alloc(1, 10)
    (site,) = at_end(script)
    assert site.file == told
    # of a file that stands there twice the inner line
    assert site.line == max((line for line, file in enumerate(files, start=1) if file == told), default=0)


def test_a_file_name_may_hold_the_separator() -> None:
    script = LinedScript()
    with script.line(4, "a|b.py", "f"):
        script.alloc(1, 10)
    (site,) = at_end(script)
    assert (site.file, site.function, site.line) == ("a|b.py", "f", 4)


# -- everything --------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["forward", "backward", "node"]),
        st.integers(1, 5),  # address
        st.integers(1, 3),  # size
        st.sampled_from([None, 1, 2]),  # line
        st.sampled_from(["model.py", TORCH]),
    ),
    max_size=25,
)


@given(steps)
def test_sites_sum_to_the_composition_at_every_event(program: list[tuple[str, int, int, int | None, str]]) -> None:
    script = LinedScript()
    alive: dict[int, int] = {}
    for sequence, (where, address, size, line, file) in enumerate(program):
        with ExitStack() as scopes:
            scopes.enter_context(script.phase("forward" if where == "forward" else "backward"))
            if where == "node":
                scopes.enter_context(script.node("MmBackward0", sequence - 1))
            scopes.enter_context(script.operator("aten::mm", sequence))
            if line is not None:
                scopes.enter_context(script.line(line, file))
            if address in alive:
                script.free(address, alive.pop(address))
            else:
                alive[address] = size
                script.alloc(address, size)
    ledger = script.ledger()
    for event in range(BEFORE, len(ledger)):
        assert_sums(ledger, event, sites_at(ledger, event))


MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32, 32))

    def forward(self, x):
        y = x @ self.weight
        return torch.sigmoid(y)
"""


def test_a_real_pass_finds_the_users_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    target, options = f"{path}:Model", {"inputs": (InputSpec.parse("x=float32[16,32]"),)}
    record_pass(target, "training", **options)  # whatever the first run in this process loads is loaded
    main, lined = (record_pass(target, "training", lines=lines, **options).recording for lines in (False, True))
    joined = with_lines(main, lined)
    assert joined.notes == main.notes
    ledger = Ledger(joined)
    step = ledger.steps[1]
    (backward,) = (p for p in ledger.periods.phases if p.name == "backward" and step.first <= p.first < step.last)
    first = backward.first - 1  # the state in which backward begins
    sites = sites_at(ledger, first)
    assert_sums(ledger, first, sites)
    found = {(site.line, site.function, site.category): site.bytes_at_peak for site in sites if site.file == str(path)}
    lines = {text.strip(): number for number, text in enumerate(MODEL.splitlines(), start=1)}
    made, multiplied, squashed = (
        next(number for text, number in lines.items() if word in text) for word in ("nn.Parameter", "@", "sigmoid")
    )
    assert found == {
        (made, "Model.__init__", Category.PARAMETERS): 32 * 32 * 4,
        # sigmoid keeps its output for its backward, the product only until the forward returns: its frame holds it
        (squashed, "Model.forward", ACTIVATIONS): 16 * 32 * 4,
    }
    # every gradient of the steady step was made by the node of the product, on whose line it shows
    fullest = ledger.category_peak(Category.GRADIENTS, step).event
    gradients = [site for site in sites_at(ledger, fullest) if site.category == Category.GRADIENTS]
    assert [(site.line, site.bytes_at_peak) for site in gradients] == [(multiplied, 32 * 32 * 4)]
