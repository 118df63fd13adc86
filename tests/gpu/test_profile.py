"""`vramscope.profile()` on a GPU, in the middle of a program's life."""

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

import vramscope
from helpers import assert_agrees
from vramscope.ledger.autopsy import autopsy
from vramscope.ledger.categories import Category

GPU = torch.device("cuda", 0)
MORE_THAN_THERE_IS = 2**45


@pytest.fixture(autouse=True)
def tidy() -> None:
    gc.collect()


def training(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.randn(64, 256, device=GPU)
    optimizer.zero_grad(set_to_none=True)
    model(x).square().mean().backward()
    optimizer.step()


def test_older_memory_is_known_to_the_byte() -> None:
    model = nn.Linear(256, 256, device=GPU)
    optimizer = torch.optim.AdamW(model.parameters())
    training(model, optimizer)
    stray = torch.empty(5 << 20, dtype=torch.uint8, device=GPU)
    before = torch.cuda.memory_allocated(GPU)
    torch.cuda.reset_peak_memory_stats(GPU)
    with vramscope.profile(model, optimizer) as profile:
        training(model, optimizer)
    assert_agrees(profile.ledger)
    assert profile.ledger.initial_bytes() == before
    assert profile.summary.peak.bytes == torch.cuda.max_memory_allocated(GPU)
    held = profile.summary.peak.by_category
    assert held[Category.UNATTRIBUTED] >= stray.numel()  # nobody told whose it is
    assert held[Category.OPTIMIZER_STATE] >= 2 * 4 * (256 * 256 + 256)


def test_an_optimizer_that_steps_on_autograds_own_thread_is_seen() -> None:
    model = nn.Linear(256, 256, bias=False, device=GPU)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def step_now(parameter: torch.Tensor) -> None:
        optimizer.step()
        optimizer.zero_grad()

    handle = model.weight.register_post_accumulate_grad_hook(step_now)
    x = torch.randn(64, 256, device=GPU)
    with vramscope.profile(model, optimizer, inputs=x) as profile:
        for _ in range(2):
            model(x).square().mean().backward()
    handle.remove()
    assert_agrees(profile.ledger)
    held = profile.summary.peak.by_category
    assert held[Category.OPTIMIZER_STATE] == 2 * 4 * 256 * 256
    assert held[Category.GRADIENTS] == 4 * 256 * 256
    assert held[Category.OPTIMIZER_TEMPORARIES] > 0
    assert [phase.name for phase in profile.ledger.periods.phases] == ["forward", "backward", "optimizer"] * 2


def test_streams_that_share_a_block_are_followed() -> None:
    side = torch.cuda.Stream(GPU)
    with vramscope.profile(device=GPU) as profile:
        x = torch.empty(4 << 20, dtype=torch.uint8, device=GPU)
        with torch.cuda.stream(side):
            y = x + 1
        x.record_stream(side)
        del x
        torch.cuda.synchronize()
        del y
    assert_agrees(profile.ledger)


def test_a_cuda_graphs_own_pool_is_followed() -> None:
    x = torch.zeros(1 << 20, device=GPU)
    for _ in range(2):
        (x * 2).sum()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with vramscope.profile(device=GPU) as profile:
        with torch.cuda.graph(graph):
            y = (x * 2).sum()
        graph.replay()
        torch.cuda.synchronize()
    assert_agrees(profile.ledger)
    assert float(y) == 0.0


def test_running_out_of_memory_is_explained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = nn.Linear(256, 256, device=GPU)
    profile = vramscope.profile(model)
    with pytest.raises(torch.OutOfMemoryError), profile:
        model(torch.randn(64, 256, device=GPU))
        torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8, device=GPU)
    found = autopsy(profile.ledger)
    assert found is not None
    assert (found.device, found.asked_bytes) == ("cuda:0", MORE_THAN_THERE_IS)
    _, total = torch.cuda.mem_get_info(GPU)
    assert found.fitting_bytes is not None and 0 < found.fitting_bytes <= total
    assert found.fragments is not None
    assert "out of memory on cuda:0" in capsys.readouterr().err
    profile.save(tmp_path / "failed.vram")
    again = autopsy(vramscope.Ledger(vramscope.read_recording(tmp_path / "failed.vram")))
    assert again == found


def test_source_lines_come_from_the_allocators_history() -> None:
    with vramscope.profile(device=GPU) as profile:
        kept = torch.empty(3 << 20, dtype=torch.uint8, device=GPU)
    own = [site.bytes_at_peak for site in profile.summary.sites if Path(site.file).name == Path(__file__).name]
    # a block of the cache may be larger by up to 1 MiB, which is not split off
    assert len(own) == 1 and kept.numel() <= own[0] < kept.numel() + (1 << 20)


def test_a_history_of_the_programs_own_is_left_alone() -> None:
    torch.cuda.memory._record_memory_history(max_entries=1000)
    try:
        with vramscope.profile(device=GPU) as profile:
            torch.empty(1 << 20, device=GPU)
        assert torch._C._cuda_isHistoryEnabled()
        assert any("left alone" in note for note in profile.recording.notes)
    finally:
        torch.cuda.memory._record_memory_history(None)


def test_a_second_gpu_is_recorded_beside_the_first() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU only")
    with vramscope.profile(device=GPU) as profile:
        kept = [torch.empty(1 << 20, device=torch.device("cuda", index)) for index in (0, 1)]
    names = [device.name for device in profile.recording.devices]
    assert names == ["cuda:0", "cpu", "cuda:1"]
    assert profile.ledger.peak(device=2).bytes >= kept[1].numel() * 4
    assert_agrees(profile.ledger)
