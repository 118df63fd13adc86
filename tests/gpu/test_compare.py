"""`compare` on a GPU, in processes of its own: exact to the byte, against torch's and the driver's own figures."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cli.command import json_of, refused, vramscope

MODELS = {"mlp": [], "gpt2": ["--seq", "128"], "gpt2 amp": ["--seq", "128", "--amp", "bfloat16"], "resnet18": []}


@pytest.fixture(scope="module", params=MODELS)
def document(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("compare")
    name = request.param.split()[0]
    return json_of("compare", name, "--device", "cuda", "--no-host", "--no-lines", *MODELS[request.param], cwd=folder)


@pytest.mark.parametrize("name", ["inference", "training"])
def test_every_byte_has_an_owner(document: Any, name: str) -> None:
    one = document["passes"][name]
    assert one["allocator"]["max_disagreement_bytes"] == 0
    assert sum(one["peak"]["by_category"].values()) == one["peak"]["bytes"] == one["allocator"]["peak_bytes"]
    assert one["peak"]["by_category"]["unattributed"] == 0


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_peak_is_torchs_own(document: Any, name: str) -> None:
    one = document["passes"][name]
    assert one["devices"][0]["max_memory_allocated_bytes"] == one["peak"]["bytes"]


@pytest.mark.parametrize("name", ["inference", "training"])
def test_requests_are_known_and_rounding_is_small(document: Any, name: str) -> None:
    peak = document["passes"][name]["peak"]
    requested = sum(peak["requested_by_category"].values())
    assert requested < peak["bytes"]  # blocks are multiples of 512 bytes, requests of these models are not all


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_reconciliation_adds_up_to_the_drivers_figure(document: Any, name: str) -> None:
    row = document["passes"][name]["devices"][0]["reconciliation"]
    requested = sum(row["requested_by_category"].values())
    assert requested == row["allocator_requested_bytes"]
    assert row["small_pool_bytes"] == row["allocator_small_pool_bytes"]
    assert requested + row["slack_bytes"] == row["allocated_bytes"]
    assert row["allocated_bytes"] + row["pending_bytes"] + row["cached_bytes"] == row["reserved_bytes"]
    assert row["used_bytes"] + row["free_bytes"] + row["driver_bytes"] == row["total_bytes"]
    if row["process_bytes"] is not None:
        assert row["reserved_bytes"] < row["process_bytes"] <= row["used_bytes"]


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_segments_at_the_peak_are_those_reserved(document: Any, name: str) -> None:
    device = document["passes"][name]["devices"][0]
    cache = device["fragmentation"]
    assert cache is not None
    free = cache["releasable_bytes"] + cache["stuck_bytes"] + cache["pending_bytes"]
    assert device["peak"]["bytes"] + free <= device["reserved_peak_bytes"]


def test_gradients_and_state_are_copies_of_the_parameters(document: Any) -> None:
    phases = document["passes"]["training"]["phases"]
    requested = document["passes"]["training"]["peak"]["requested_by_category"]
    assert phases["optimizer"]["by_category"]["gradients"] > 0
    assert requested["parameters"] == 4 * document["workload"]["parameter_count"]


def test_other_allocator_settings_are_followed(tmp_path: Path) -> None:
    finished = vramscope(
        *("compare", "mlp", "--device", "cuda", "--no-host", "--no-lines", "-q", "--json", "out.json"),
        cwd=tmp_path,
        PYTORCH_ALLOC_CONF="expandable_segments:True",
        PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True",
    )
    assert finished.returncode == 0, finished.stderr
    import json

    one = json.loads((tmp_path / "out.json").read_text())["passes"]["training"]
    assert one["allocator"]["max_disagreement_bytes"] == 0
    assert one["peak"]["by_category"]["unattributed"] == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync", "cudaMallocAsync, which reports no events"),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1", "PYTORCH_NO_CUDA_MEMORY_CACHING is set"),
    ],
)
def test_allocators_that_report_nothing_are_refused(tmp_path: Path, variable: str, value: str, said: str) -> None:
    finished = vramscope("compare", "mlp", "--device", "cuda", "-q", cwd=tmp_path, **{variable: value})
    assert finished.returncode == 2
    assert said in finished.stderr


def test_an_index_that_is_not_there_is_refused(tmp_path: Path) -> None:
    there = torch.cuda.device_count()
    assert f"--device cuda:{there}" in refused("compare", "mlp", "--device", f"cuda:{there}", cwd=tmp_path)


def test_doctor_knows_the_gpu(tmp_path: Path) -> None:
    document = json_of("doctor", cwd=tmp_path)
    assert [gpu["name"] for gpu in document["machine"]["gpus"]][:1] == [torch.cuda.get_device_name(0)]
    extents = {row["name"]: row["extent"] for row in document["capabilities"]}
    assert extents["GPU tensors"] == extents["GPU segments and requests"] == "yes"
