"""Predicted passes: exact sums, CUDA's own choices, and the command."""

import json

import numpy as np
import pytest

from cli.command import refused, vramscope
from vramscope.allocator.settings import parse_settings
from vramscope.errors import NothingToTrainError
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.summary import summarize_ledger
from vramscope.predict import cuda_rules
from vramscope.predict.estimate import gpu_use, predict_passes
from vramscope.predict.gpus import find_gpu
from vramscope.workloads.workload import WorkloadOptions

GPU = find_gpu("a100-80gb")
MODEL = """
import torch
from torch import nn
from torch.nn import functional
from vramscope import Workload

class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(64, 192, bias=False)

    def forward(self, x):
        q, k, v = self.project(x).view(2, 128, 3, 2, 32).permute(2, 0, 3, 1, 4)
        return functional.dropout(functional.scaled_dot_product_attention(q, k, v), 0.5, self.training)

def build():
    return Workload(Attend(), torch.randn(2, 128, 64))
"""

ONCE = """
import torch
from torch import nn
from vramscope import Workload
library = torch.library.Library("vramscope_once", "DEF")
library.define("next(Tensor x) -> Tensor")
library.impl("next", lambda x: x + 1, "CompositeImplicitAutograd")
TABLE = torch.randn(100, 100)
BATCH = torch.randn(8, 100)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(100, 10, bias=False)
        self.register_buffer("table", TABLE)

    def forward(self, x):
        return self.project(torch.ops.vramscope_once.next(x) @ self.table)

def build():
    return Workload(Model(), BATCH)
"""


@pytest.fixture
def attend(tmp_path):
    path = tmp_path / "attend.py"
    path.write_text(MODEL, encoding="utf-8")
    return f"{path}:build"


def predict(target, name="training", **options) -> Ledger:
    chosen = WorkloadOptions(**{"steps": 1, **options})
    return Ledger(predict_passes(target, chosen, GPU, (name,))[name])


def steady_births(ledger: Ledger, operator: str) -> list[int]:
    """Requested bytes of what an operator makes in the steady step."""
    found = []
    for row in range(ledger.steps[1].first, ledger.steps[1].last):
        if ledger.recording.events.size[row] > 0 and ledger.operator_at(row) == operator:
            found.append(int(ledger.recording.events.requested[row]))
    return found


def test_a_prediction_adds_up_and_has_no_stray_byte():
    ledger = predict("mlp", batch=3)
    assert ledger.max_disagreement_bytes() == 0
    assert summarize_ledger(ledger).peak.by_category[Category.UNATTRIBUTED] == 0


def test_dropout_keeps_a_mask_of_one_byte_per_element(attend):
    # 2 x 2 x 128 x 32 elements: the mask first, then the result in float32
    assert steady_births(predict(attend), "aten::dropout") == [16384, 65536]


def test_half_precision_attention_is_flash(attend):
    births = steady_births(predict(attend, dtype="bfloat16"), "aten::scaled_dot_product_attention")
    # the result, 2 x 2 x 128 x 32 in bfloat16, and the logarithms of the sums, 2 x 2 x 128 in float32
    assert births[:2] == [32768, 2048]


def test_foreach_adamw_takes_four_more_bytes_per_parameter():
    """The square roots of the second moments exist for all parameters at once (torch/optim/adam.py, foreach)."""
    ledger = predict("mlp", batch=1)
    peak = ledger.category_peak(Category.OPTIMIZER_TEMPORARIES, ledger.steps[1])
    temporaries = ledger.composition(peak.event, requested=True)[Category.OPTIMIZER_TEMPORARIES]
    parameters = ledger.composition(peak.event, requested=True)[Category.PARAMETERS]
    assert temporaries == parameters


@pytest.mark.parametrize(
    ("optimizer", "on_the_gpu"),
    [
        ("adamw", {"exp_avg", "exp_avg_sq"}),  # torch.tensor(0.0)
        ("adadelta", {"square_avg", "acc_delta"}),  # torch.zeros(()) without a device
        ("rmsprop", {"square_avg"}),
        ("rprop", {"prev", "step_size"}),
        ("adagrad", {"sum"}),  # made with the optimizer, before the first step
    ],
)
def test_state_is_where_the_optimizer_puts_it(optimizer, on_the_gpu):
    summary = summarize_ledger(predict("mlp", batch=1, optimizer=optimizer))
    assert set(summary.optimizer_state) == on_the_gpu
    held = summary.peak.requested_by_category
    assert held[Category.OPTIMIZER_STATE] == len(on_the_gpu) * held[Category.PARAMETERS]


def test_fused_counters_are_on_the_gpu():
    """``device=p.device`` in torch/optim/adam.py."""
    assert "step" in summarize_ledger(predict("mlp", batch=1, optimizer="adamw", fused=True)).optimizer_state


@pytest.mark.parametrize("name", ["inference", "training"])
def test_a_counter_of_batches_moves_to_the_gpu_with_its_model(tmp_path, name):
    """``torch.tensor(0)`` in nn/modules/batchnorm.py: made on the host, it is a buffer like any other."""
    path = tmp_path / "norm.py"
    path.write_text(
        "import torch\nfrom torch import nn\nfrom vramscope import Workload\n"
        "def build():\n    return Workload(nn.Sequential(nn.BatchNorm2d(7)), torch.randn(2, 7, 8, 8))\n"
    )
    held = summarize_ledger(predict(f"{path}:build", name)).peak.requested_by_category
    assert held[Category.BUFFERS] == 7 * 4 + 7 * 4 + 8


@pytest.mark.parametrize(("torch_release", "sizes"), [((2, 11), [8_519_680, 1_048_576]), ((2, 12), [8_519_680])])
def test_cublaslt_had_a_workspace_of_its_own(monkeypatch, torch_release, sizes):
    monkeypatch.setattr(cuda_rules, "TORCH", torch_release)
    ledger = predict("mlp", "inference", batch=1)
    born = ledger.recording.events.requested[ledger.recording.events.size > 0].tolist()
    assert [size for size in born if size in (8_519_680, 1_048_576)] == sizes


def test_each_thread_has_a_cublas_workspace():
    ledger = predict("mlp", batch=1)
    sizes = ledger.recording.events.requested
    # one handle in forward, one in backward
    assert int(np.count_nonzero(sizes == 8_519_680)) == 2


def test_reserved_is_at_least_allocated_and_expandable_segments_keep_it_close():
    recording = predict_passes("mlp", WorkloadOptions(batch=64, steps=1), GPU, ("training",))["training"]
    options = WorkloadOptions(batch=64, steps=1)
    settings = parse_settings("expandable_segments:True")
    expandable = predict_passes("mlp", options, GPU, ("training",), settings)["training"]
    plain, tight = gpu_use(recording, GPU), gpu_use(expandable, GPU)
    assert plain.reserved_bytes >= plain.allocated_bytes
    assert tight.allocated_bytes <= tight.reserved_bytes
    assert plain.process_bytes[0] > plain.reserved_bytes


def test_the_command_gives_one_document(tmp_path):
    result = vramscope("estimate", "mlp", "--gpu", "t4-16gb", "--steps", "1", "-q", "--json", "-", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    training = document["passes"]["training"]
    assert (document["tool"], training["predicted"]) == ("estimate", True)
    assert sum(training["peak"]["by_category"].values()) == training["peak"]["bytes"]
    device = training["devices"][0]
    assert device["device"] == "cuda:0"
    assert device["reserved_peak_bytes"] - device["fragmentation_bytes"] >= training["peak"]["bytes"]
    assert device["fits"] is True


def test_a_file_that_can_run_only_once_in_a_process_is_predicted_for_both_passes(tmp_path):
    (tmp_path / "once.py").write_text(ONCE, encoding="utf-8")
    target, options = f"{tmp_path / 'once.py'}:build", WorkloadOptions(steps=1)
    for recording in predict_passes(target, options, GPU, ("inference", "training")).values():
        ledger = Ledger(recording)
        held = summarize_ledger(ledger).peak.by_category
        assert ledger.max_disagreement_bytes() == 0
        # 100 x 100 and 8 x 100 numbers of 4 bytes in whole blocks of 512, made by the file's one run
        assert (held[Category.BUFFERS], held[Category.INPUTS], held[Category.UNATTRIBUTED]) == (40448, 3584, 0)


def test_of_a_model_with_nothing_to_train_inference_is_predicted(tmp_path):
    text = "import torch, vramscope\ndef build():\n    return vramscope.Workload(torch.nn.ReLU(), torch.ones(8))\n"
    (tmp_path / "plain.py").write_text(text, encoding="utf-8")
    target, options = f"{tmp_path / 'plain.py'}:build", WorkloadOptions(steps=1)
    recordings = predict_passes(target, options, GPU, ("inference", "training"))
    assert list(recordings) == ["inference"]
    assert "there is no training pass: the model has no parameters" in recordings["inference"].notes
    with pytest.raises(NothingToTrainError):
        predict_passes(target, options, GPU, ("training",))


def test_a_model_that_reads_values_says_what_was_assumed(tmp_path):
    path = tmp_path / "reads.py"
    path.write_text(
        "import torch\nfrom torch import nn\nfrom vramscope import Workload\n"
        "class Reads(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.linear = nn.Linear(2, 2)\n"
        "    def forward(self, x):\n        return self.linear(x) * x.sum().item()\n"
        "def build():\n    return Workload(Reads(), torch.rand(1, 2))\n",
        encoding="utf-8",
    )
    notes = predict(f"{path}:build").recording.notes
    assert any(".item()" in note for note in notes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("estimate", "mlp", "--gpu", "rtx4090"), "did you mean rtx4090-24gb"),
        (("estimate", "--gpu", "t4-16gb"), "needs a TARGET"),
        (("estimate", "mlp", "--gpu", "t4-16gb", "--allocator", "nonsense:1"), "nonsense"),
        (("fit", "mlp", "--gpu", "t4-16gb", "--batch", "3"), "--batch is what fit looks for"),
        (
            ("fit", "mlp", "--gpu", "t4-16gb", "--over", "seq"),
            "fit varies seq, which does nothing for mlp; choose",
        ),
    ],
)
def test_wrong_use_is_one_line(tmp_path, arguments, said):
    assert said in refused(*arguments, cwd=tmp_path)


def test_the_table_of_gpus(tmp_path):
    result = vramscope("estimate", "--gpu", "list", cwd=tmp_path)
    assert result.returncode == 0
    assert "h100-80gb" in result.stdout
    titles = ["Pascal", "Volta", "Turing", "Ampere", "Ada Lovelace", "Hopper", "Blackwell"]
    assert [line for line in result.stdout.splitlines() if line in titles] == titles
