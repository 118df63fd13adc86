"""Memory that runs out, for real on the CPU, and in the words of the CUDA allocator."""

import pytest
import torch
from tests.helpers import recording_of
from torch import nn

import vramscope
from vramscope.ledger.autopsy import autopsy
from vramscope.ledger.ledger import Ledger
from vramscope.recorders.failures import available_host_bytes, out_of_memory

MORE_THAN_THERE_IS = 2**50


def test_the_cpus_own_words_tell_the_request_to_the_byte() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)
    found = out_of_memory(raised.value)
    assert found is not None
    assert (found.device, found.asked_bytes, found.is_rounded) == ("cpu", MORE_THAN_THERE_IS, False)
    assert 0 < found.available_bytes < MORE_THAN_THERE_IS


@pytest.mark.parametrize(
    ("words", "device", "asked", "available"),
    [
        (
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 79.19 GiB of which 1.25 GiB "
            "is free. Process 7 has 77.94 GiB memory in use. Of the allocated memory 70.00 GiB is allocated by PyTorch",
            "cuda:1",
            2_684_354_560,
            1_342_177_280,
        ),
        ("CUDA out of memory. Tried to allocate 512 bytes. GPU 0 has", "cuda:0", 512, -1),
    ],
)
def test_the_gpus_words_tell_it_rounded(words: str, device: str, asked: int, available: int) -> None:
    found = out_of_memory(torch.OutOfMemoryError(words))
    assert found is not None and found.is_rounded
    assert (found.device, found.asked_bytes, found.available_bytes) == (device, asked, available)


def test_an_error_may_be_wrapped_in_others() -> None:
    inner = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 MiB. GPU 0 has")
    outer = ValueError("forward failed")
    outer.__cause__ = inner
    found = out_of_memory(outer)
    assert found is not None and found.asked_bytes == 4 * 1024**2


def test_other_errors_are_none_of_it() -> None:
    assert out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert out_of_memory(None) is None


def test_host_memory_is_bounded_by_the_limit_on_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1, 1))
    assert available_host_bytes() == 0  # the process is larger already


def test_a_failure_in_a_recording_is_found_where_it_was() -> None:
    with recording_of() as running:
        model = nn.Linear(10, 10)
        running.recorder.watch(model)
        with running.recorder.phase("forward"):
            try:
                torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)
            except RuntimeError as error:
                assert running.recorder.failed(error)
    found = autopsy(running.ledger)
    assert found is not None
    assert (found.asked_bytes, found.phase, found.operator) == (MORE_THAN_THERE_IS, "forward", "aten::empty")
    assert found.held_bytes == 440  # (10 x 10 + 10) x 4
    assert running.recording is not None and not running.recording.complete


def test_a_failure_that_the_program_survives_is_found_too() -> None:
    with recording_of() as running:
        with pytest.raises(RuntimeError):
            torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)
        torch.empty(256, dtype=torch.uint8)
    found = autopsy(running.ledger)
    assert found is not None
    assert found.asked_bytes is None  # only the error said so, and the program kept it
    assert running.recording is not None and running.recording.complete


def test_a_profile_writes_the_autopsy_before_the_error_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(10, 10)
    profile = vramscope.profile(model)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"), profile:
        model(torch.ones(2, 10))
        torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)
    assert "out of memory on cpu: 1,024.0 TiB (1,125,899,906,842,624 B) asked for" in capsys.readouterr().err
    assert "out of memory on cpu" in profile.autopsy
    assert autopsy(Ledger(profile.recording)) is not None


def test_a_profile_that_ends_well_or_otherwise_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with vramscope.profile() as profile:
        torch.empty(10)
    assert profile.autopsy == ""
    with pytest.raises(ValueError, match="another"), vramscope.profile():
        raise ValueError("another error")
    assert capsys.readouterr().err == ""
