"""What the Python API shows of a profile."""

import gc
import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

import vramscope
from vramscope.cli.report import report_command
from vramscope.errors import UnsupportedError, UsageError
from vramscope.ledger.blocks import BEFORE


@pytest.fixture(scope="module")
def profile() -> vramscope.Profile:
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.AdamW(model.parameters())
    batch = torch.randn(64, 784)
    with vramscope.profile(model, optimizer, inputs=batch) as profile:
        for index in range(2):
            with profile.step(index):
                optimizer.zero_grad()
                model(batch).square().mean().backward()
                optimizer.step()
    return profile


@pytest.mark.parametrize(
    ("options", "changes"), [([], {}), (["-v"], {"verbose": True}), (["--top", "1"], {"top": 1})], ids=str
)
def test_the_report_is_that_of_the_saved_recording(
    profile: vramscope.Profile, tmp_path: Path, options: list[str], changes: dict[str, bool]
) -> None:
    profile.save(tmp_path / "loop.vram")
    printed = io.StringIO()
    profile.print_report(file=printed, **changes)
    reported = CliRunner().invoke(report_command, [str(tmp_path / "loop.vram"), *options], catch_exceptions=False)
    assert printed.getvalue() == reported.stdout
    total = profile.summary.peak.bytes
    assert f"✓ equals the allocator's own total to the byte: recording {total:,} B" in printed.getvalue()


def test_the_report_goes_to_standard_output(profile: vramscope.Profile, capsys: pytest.CaptureFixture[str]) -> None:
    profile.print_report()
    assert capsys.readouterr().out.startswith("Sequential · cpu\n")


@pytest.mark.parametrize("top", [0, None, 2.5], ids=str)
def test_a_report_of_no_number_of_rows_is_refused(profile: vramscope.Profile, top: object) -> None:
    with pytest.raises(UsageError, match=rf"print_report\(top={top}\): give a whole number from 1 on"):
        profile.print_report(top=top)


def test_a_forward_that_follows_a_clearing_of_older_gradients_does_not_count_them() -> None:
    model = nn.Sequential(nn.Linear(256, 256, bias=False), nn.ReLU(), nn.Linear(256, 10, bias=False))
    optimizer = torch.optim.SGD(model.parameters())
    batch = torch.randn(4, 256)
    model(batch).square().mean().backward()
    with vramscope.profile(model, optimizer, inputs=batch) as profile:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    forward = profile.summary.phases["forward"]
    # weights 4 (256 x 256 + 256 x 10) and batch 4 (4 x 256); the hidden layer before and after its ReLU, each as large
    # as the batch; the gradients, as large as the weights, are no more
    assert forward.peak_bytes == 272_384 + 4_096 + 2 * 4_096


def test_a_step_that_begins_after_a_clearing_does_not_count_what_was_cleared() -> None:
    model = nn.Linear(256, 256, bias=False)
    optimizer = torch.optim.SGD(model.parameters())
    batch = torch.randn(4, 256)
    model(batch).square().mean().backward()
    with vramscope.profile(model, optimizer, inputs=batch) as profile:
        optimizer.zero_grad()
        with profile.step(0), torch.no_grad():
            model(batch)
    # weights 4 (256 x 256), batch 4 (4 x 256), and the output, which is as large
    assert profile.summary.peak.bytes == 262_144 + 2 * 4_096


def test_a_device_is_named_as_it_was_given() -> None:
    with pytest.raises(UnsupportedError, match=r"^device=warp: no such device"):
        vramscope.profile(device="warp")


@pytest.mark.parametrize("optimizer", ["x", 3, 0, False, [3]], ids=str)
def test_what_is_no_optimizer_is_refused(optimizer: object) -> None:
    with pytest.raises(UsageError, match=r"profile\(optimizer=…\) takes optimizers of torch\.optim, not "):
        vramscope.profile(nn.Linear(1, 1), optimizer)


def test_a_container_of_what_is_no_optimizer_is_named() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(UsageError, match=r"takes optimizers of torch\.optim, not a generator of Parameter"):
        vramscope.profile(model, model.parameters())


OUTSIDE = {
    "step()": lambda profile: profile.step(0),
    "phase()": lambda profile: profile.phase("forward"),
    "watch()": lambda profile: profile.watch(nn.Linear(1, 1)),
    "mark_inputs()": lambda profile: profile.mark_inputs(torch.ones(1)),
    "__exit__()": lambda profile: profile.__exit__(None, None, None),
}


@pytest.mark.parametrize("call", OUTSIDE)
def test_what_belongs_inside_the_block_is_refused_outside(call: str) -> None:
    profile = vramscope.profile()
    with pytest.raises(UsageError, match=rf"^profile\.{re.escape(call)} belongs inside .* which has not begun$"):
        OUTSIDE[call](profile)
    with profile:
        pass
    with pytest.raises(UsageError, match=rf"^profile\.{re.escape(call)} belongs inside .* which has ended$"):
        OUTSIDE[call](profile)


@pytest.mark.parametrize("model", [[nn.Linear(1, 1)], 3, None], ids=str)
def test_only_a_model_can_be_watched(model: object) -> None:
    with vramscope.profile() as profile, pytest.raises(UsageError, match=r"watch\(\) takes an nn\.Module, not "):
        profile.watch(model)
    assert profile.recording.complete


def test_a_block_that_is_left_on_another_thread_can_still_be_ended() -> None:
    profile = vramscope.profile()
    profile.__enter__()
    with ThreadPoolExecutor(1) as pool, pytest.raises(UsageError, match="on the thread on which it began"):
        pool.submit(profile.__exit__, None, None, None).result()
    profile.__exit__(None, None, None)
    assert profile.recording.complete


def test_models_that_run_on_other_threads_are_told_of() -> None:
    model = nn.Linear(4, 4)
    with vramscope.profile(model) as profile, ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            pool.submit(model, torch.ones(1, 4)).result()
    assert any(note.startswith("2 times watched models ran on other threads") for note in profile.recording.notes)


@pytest.mark.parametrize("index", [True, "1", 1.0, None, np.ones(2), -1, 2**63, 10**30], ids=str)
def test_a_step_without_a_fit_number_is_refused_and_nothing_is_lost(index: object) -> None:
    with vramscope.profile() as profile, pytest.raises(UsageError, match=r"by a whole number"), profile.step(index):
        pass
    assert profile.recording.complete


@pytest.mark.parametrize("index", [np.int64(3), torch.tensor(3), 2**63 - 1], ids=str)
def test_a_step_is_numbered_by_any_whole_number(index: int) -> None:
    with vramscope.profile() as profile, profile.step(index):
        torch.zeros(1000)
    assert profile.summary.peak.bytes == 4000


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))


OF_THE_NET = 4 * (784 * 100 + 100 + 100 * 10 + 10)
"""Bytes of its parameters."""


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> None:
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()


def test_older_parameters_that_a_model_takes_over_are_its_own() -> None:
    older = net().state_dict()
    with torch.device("meta"):
        model = net()
    with vramscope.profile(model, device="cpu") as profile:
        model.load_state_dict(older, assign=True)
        model(torch.ones(1, 784))
    assert profile.summary.peak.by_category["parameters"] == OF_THE_NET


@pytest.mark.parametrize("made", ["inside", "before"])
def test_older_state_of_an_optimizer_that_was_not_given_is_its_state(made: str) -> None:
    model, batch = net(), torch.ones(4, 784)
    optimizer = torch.optim.AdamW(model.parameters())
    take_step(model, optimizer, batch)
    with vramscope.profile(model) as profile:
        if made == "inside":
            state = optimizer.state_dict()
            optimizer = torch.optim.AdamW(model.parameters())
            optimizer.load_state_dict(state)
        take_step(model, optimizer, batch)
    # two for each parameter, and a step counter of 4 bytes for each of four tensors
    assert profile.summary.peak.by_category["optimizer_state"] == 2 * OF_THE_NET + 4 * 4


def test_state_that_is_loaded_between_steps_is_the_optimizers() -> None:
    model, batch = net(), torch.ones(4, 784)
    other = torch.optim.AdamW(model.parameters())
    take_step(model, other, batch)
    older = other.state_dict()
    optimizer = torch.optim.AdamW(model.parameters())
    with vramscope.profile(model, optimizer) as profile:
        with profile.step(0):
            take_step(model, optimizer, batch)
        with profile.step(1):
            optimizer.load_state_dict(older)
            take_step(model, optimizer, batch)
    ledger = profile.ledger
    at_end = ledger.composition(len(ledger) - 1)
    assert at_end["optimizer_state"] == 2 * OF_THE_NET + 4 * 4


def test_older_gradients_of_a_model_that_is_watched_later_go_when_they_are_cleared() -> None:
    model = nn.Linear(256, 256, bias=False)
    model(torch.ones(4, 256)).sum().backward()
    with vramscope.profile() as profile:
        profile.watch(model)
        with profile.phase("forward"):
            pass
        model.zero_grad()
        model(torch.ones(4, 256)).sum().backward()
    ledger = profile.ledger
    assert ledger.composition(BEFORE)["gradients"] == 256 * 256 * 4
    assert ledger.composition(len(ledger) - 1)["gradients"] == 256 * 256 * 4


def test_an_older_tensor_that_becomes_a_buffer_is_one() -> None:
    model, older = nn.Linear(4, 4), torch.zeros(5000)
    with vramscope.profile(model) as profile:
        model.register_buffer("mean", older)
        model(torch.ones(1, 4))
    assert profile.summary.peak.by_category["buffers"] == 20_000


def test_buffers_in_numpys_memory_are_not_taken_for_older() -> None:
    """They may be new each time, as here, and at most two are there at once."""
    model = nn.Linear(4, 4)
    with vramscope.profile(model) as profile:
        for index in range(5):
            with profile.step(index):
                model.register_buffer("mean", torch.from_numpy(np.zeros(1000 + index, dtype=np.float32)))
                model(torch.ones(1, 4))
    assert profile.summary.peak.by_category["buffers"] == 0


def test_older_state_that_is_put_into_an_optimizers_own_is_its_state() -> None:
    model, batch = net(), torch.ones(4, 784)
    other = torch.optim.AdamW(model.parameters())
    take_step(model, other, batch)
    optimizer = torch.optim.AdamW(model.parameters())
    with vramscope.profile(model, optimizer) as profile:
        optimizer.state.update(other.state)
        take_step(model, optimizer, batch)
    assert profile.summary.peak.by_category["optimizer_state"] == 2 * OF_THE_NET + 4 * 4


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Linear(8, 8)

    def forward(self, x: Tensor, past_key_values: Any = None) -> dict[str, Any]:
        keys = self.keys(x)
        return {"past_key_values": [keys if past_key_values is None else torch.cat([past_key_values[0], keys])]}


def test_a_cache_that_the_program_reorders_is_the_models() -> None:
    model, cache = Caching(), None
    with vramscope.profile(model) as profile, torch.no_grad():
        for _ in range(3):
            cache = model(torch.ones(2, 8), past_key_values=cache)["past_key_values"]
            cache = [cache[0].flip(0)]
        model(torch.ones(2, 8), past_key_values=cache)
    made = profile.ledger.blocks.size[profile.ledger.is_category(vramscope.Category.UNATTRIBUTED)]
    # each ones(2, 8) is the program's own; what flip() made has 2, 4 and 6 rows, of which a forward takes all up
    assert sorted(made.tolist()) == [4 * 2 * 8] * 4


def test_nothing_that_was_given_is_kept_alive() -> None:
    model, batch = net(), torch.ones(4, 784)
    optimizer = torch.optim.AdamW(model.parameters())
    given = [ref(model), ref(optimizer), ref(batch)]
    with vramscope.profile(model, optimizer, inputs=batch) as profile:
        take_step(model, optimizer, batch)
        del model, optimizer, batch
        gc.collect()
        assert [one() for one in given] == [None] * 3
    assert profile.recording.workload["name"] == "Sequential"


class Graph:
    def __init__(self) -> None:
        self.nodes = torch.ones(2, 4)


def test_inputs_may_lie_in_objects() -> None:
    graph = Graph()
    with vramscope.profile(inputs=graph) as profile:
        another = Graph()
        profile.mark_inputs(another)
    peak = profile.summary.peak.by_category
    assert (peak["inputs"], peak["unattributed"]) == (2 * 2 * 4 * 4, 0)


def test_marked_inputs_that_are_not_counted_are_told_of() -> None:
    model, batches = nn.Linear(4, 4), [torch.ones(2, 4) for _ in range(3)]
    with vramscope.profile(model, inputs=batches[:1]) as profile:
        for batch in [*batches, torch.ones(2, 4)]:
            profile.mark_inputs(batch)
            model(batch)
    (note,) = profile.recording.notes
    assert note.startswith("2 or more of the tensors marked as inputs are not counted: they are older than the block")


def test_inputs_that_are_counted_are_not_remarked_on() -> None:
    with vramscope.profile() as profile:
        for _ in range(3):
            profile.mark_inputs(torch.ones(2, 4))
    assert profile.recording.notes == ()


def test_there_is_no_report_before_the_end() -> None:
    with (
        vramscope.profile() as profile,
        pytest.raises(UsageError, match=r"read it after the `with vramscope\.profile\(…\)` block has ended"),
    ):
        profile.print_report()


OLDER = """
import torch, vramscope
model = torch.nn.Linear(64, 64)
model(torch.zeros(1, 64)).sum().backward()
with vramscope.profile(model) as profile:
    model.zero_grad()
    model(torch.zeros(1, 64)).sum().backward()
"""


def test_torch_does_not_complain_of_blocks_that_are_older() -> None:
    finished = subprocess.run([sys.executable, "-c", OLDER], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def beside_a_model(
    profile: vramscope.Profile, model: nn.Module, free: nn.Parameter, optimizer: torch.optim.SGD
) -> None:
    """One step in which a parameter of no module takes part."""
    with profile, profile.step(0):
        optimizer.zero_grad()
        (model(torch.ones(4, 6)) * free).sum().backward()
        optimizer.step()


def parameters_of(profile: vramscope.Profile) -> dict[str, int]:
    """Bytes of each module that has parameters."""
    return {row.path: row.parameter_bytes for row in profile.summary.modules if row.parameter_bytes}


def test_a_parameter_of_no_module_is_its_optimizers() -> None:
    model, free = nn.Linear(6, 5), nn.Parameter(torch.ones(5))
    optimizer = torch.optim.SGD([*model.parameters(), free], 0.1)
    profile = vramscope.profile(model, optimizer)
    beside_a_model(profile, model, free, optimizer)
    # 6 * 5 weights and 5 biases of 4 bytes in the model, 5 numbers beside it; gradients alike
    assert parameters_of(profile) == {"": 35 * 4, "SGD": 5 * 4}
    assert {row.path: row.gradient_bytes for row in profile.summary.modules} == {"": 35 * 4, "SGD": 5 * 4}


def test_an_optimizer_that_shows_itself_by_its_step_has_its_parameters_too() -> None:
    model, free = nn.Linear(6, 5), nn.Parameter(torch.ones(5))
    optimizer = torch.optim.SGD([*model.parameters(), free], 0.1)
    profile = vramscope.profile(model)
    beside_a_model(profile, model, free, optimizer)
    assert parameters_of(profile) == {"": 35 * 4, "SGD": 5 * 4}


def test_a_model_that_is_watched_later_names_what_an_optimizer_held() -> None:
    model = nn.Linear(6, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    profile = vramscope.profile(optimizer=optimizer)
    with profile, profile.step(0):
        optimizer.zero_grad()
        model(torch.ones(4, 6)).sum().backward()
        optimizer.step()
        profile.watch(model)
    assert parameters_of(profile) == {"": 35 * 4}


def test_parameters_of_an_optimizer_are_not_kept_alive() -> None:
    free = nn.Parameter(torch.ones(5))
    optimizer = torch.optim.SGD([free], 0.1)
    with vramscope.profile(optimizer=optimizer) as profile:
        free.sum().backward()
        optimizer.step()
        of_parameter = StorageWeakRef(free.untyped_storage())
        profile._optimizers = ()  # what was handed over is the profile's until it ends; the recorder is asked here
        del free, optimizer
        gc.collect()
        assert of_parameter.expired()


def test_lazy_parameters_of_an_optimizer_cost_no_labels() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(6, 5), nn.LazyLinear(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    model = Half()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with vramscope.profile(model, optimizer) as profile:
        model(torch.ones(4, 6)).sum().backward()
        optimizer.step()
    assert parameters_of(profile) == {"used": 35 * 4}
    assert profile.recording.notes == ()


def test_what_two_optimizers_hold_goes_by_the_one_that_is_left() -> None:
    free = nn.Parameter(torch.ones(1000))
    first, second = torch.optim.Adam([free], 0.1), torch.optim.SGD([free], 0.1)
    with vramscope.profile() as profile:
        for _ in range(2):
            free.sum().backward()
            first.step()
            second.step()
            free.grad = None
        del first
        gc.collect()
        for _ in range(2):
            free.sum().backward()
            second.step()
            free.grad = None
        last = free.sum()
        last.backward()
        second.step()
    assert profile.ledger.composition(len(profile.ledger) - 1)[vramscope.Category.GRADIENTS] == 4000


def test_optimizers_that_replace_one_another_share_a_name() -> None:
    with vramscope.profile() as profile:
        for _ in range(3):
            image = nn.Parameter(torch.ones(1000))
            optimizer = torch.optim.SGD([image], 0.1, momentum=0.9)
            (image * image).sum().backward()
            optimizer.step()
            del optimizer, image
    assert {row.path for row in profile.summary.modules} <= {"", "SGD"}


def test_an_optimizer_that_cannot_be_hashed_is_no_hindrance() -> None:
    class Equal(torch.optim.SGD):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return self is other

    model = nn.Linear(6, 5)
    with vramscope.profile(model, Equal(model.parameters(), 0.1)) as profile:
        model(torch.ones(4, 6))
    assert parameters_of(profile) == {"": 35 * 4}
