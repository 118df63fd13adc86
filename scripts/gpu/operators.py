"""What single operators allocate, forward and backward: the facts that rules of prediction are held against."""

import json
from collections.abc import Callable
from typing import Any

import torch
from report import Report
from torch import nn
from torch.nn import functional

import vramscope

Make = Callable[[Any], Callable[[], torch.Tensor]]
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


def _random(how: Any, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, device=how, dtype=dtype).requires_grad_()


@case
def matrix_product(how: Any) -> Callable[[], torch.Tensor]:
    a, b = _random(how, 512, 256), _random(how, 256, 512)
    return lambda: a @ b


@case
def linear_bfloat16(how: Any) -> Callable[[], torch.Tensor]:
    layer, x = nn.Linear(256, 256, device=how, dtype=torch.bfloat16), _random(how, 64, 256, dtype=torch.bfloat16)
    return lambda: layer(x)


@case
def convolution(how: Any) -> Callable[[], torch.Tensor]:
    layer, x = nn.Conv2d(16, 32, 3, padding=1, device=how), _random(how, 4, 16, 32, 32)
    return lambda: layer(x)


@case
def batch_norm(how: Any) -> Callable[[], torch.Tensor]:
    layer, x = nn.BatchNorm2d(16, device=how), _random(how, 4, 16, 32, 32)
    return lambda: layer(x)


@case
def layer_norm(how: Any) -> Callable[[], torch.Tensor]:
    layer, x = nn.LayerNorm(256, device=how), _random(how, 64, 256)
    return lambda: layer(x)


@case
def rms_norm(how: Any) -> Callable[[], torch.Tensor]:
    layer, x = nn.RMSNorm(256, device=how), _random(how, 64, 256)
    return lambda: layer(x)


@case
def dropout(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 64, 256)
    return lambda: functional.dropout(x, 0.1, True)


@case
def softmax(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 64, 256)
    return lambda: x.softmax(-1)


@case
def gelu(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 64, 256)
    return lambda: functional.gelu(x)


@case
def sum_over_rows(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 65_536, 8)
    return lambda: x.sum(0)


@case
def mean_of_all(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 4096, 256)
    return lambda: x.mean()


@case
def embedding(how: Any) -> Callable[[], torch.Tensor]:
    layer, tokens = nn.Embedding(5000, 64, device=how), torch.randint(5000, (8, 128), device=how)
    return lambda: layer(tokens)


@case
def cross_entropy(how: Any) -> Callable[[], torch.Tensor]:
    x, target = _random(how, 512, 1000), torch.randint(1000, (512,), device=how)
    return lambda: functional.cross_entropy(x, target)


@case
def cumulative_sum(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 64, 256)
    return lambda: x.cumsum(-1)


@case
def sorted_values(how: Any) -> Callable[[], torch.Tensor]:
    x = _random(how, 64, 4096)
    return lambda: x.sort(-1).values


@case
def lstm(how: Any) -> Callable[[], torch.Tensor]:
    layer, x = nn.LSTM(64, 128, 2, batch_first=True, device=how), _random(how, 8, 32, 64)
    return lambda: layer(x)[0]


def _attention(dtype: torch.dtype, masked: bool = False, **options: Any) -> Make:
    def make(how: Any) -> Callable[[], torch.Tensor]:
        query, key, value = (_random(how, 2, 4, 128, 64, dtype=dtype) for _ in range(3))
        mask = torch.ones(128, 128, dtype=torch.bool, device=how).tril() if masked else None
        return lambda: functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)

    return make


CASES["attention_float32"] = _attention(torch.float32)
CASES["attention_float32_masked"] = _attention(torch.float32, masked=True)
CASES["attention_float32_dropout"] = _attention(torch.float32, dropout_p=0.1)
CASES["attention_bfloat16_causal"] = _attention(torch.bfloat16, is_causal=True)
CASES["attention_bfloat16_masked"] = _attention(torch.bfloat16, masked=True)
CASES["attention_bfloat16_dropout"] = _attention(torch.bfloat16, dropout_p=0.1)


def trace(report: Report, found: dict[str, Any]) -> None:
    """The events of each operator's second run, in order: operator, phase, requested bytes (negative when freed)."""
    traces: dict[str, Any] = {}
    for name, make in CASES.items():
        report.left()
        try:
            traces[name] = _trace(make, report.device)
        except (RuntimeError, NotImplementedError) as error:
            traces[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
    lines = (f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in traces.items())
    (report.folder / "operators.json").write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    found["operators"] = {name: len(rows) for name, rows in traces.items()}
    found["failures"] = [f"{name}: {rows['error']}" for name, rows in traces.items() if "error" in rows]


def _trace(make: Make, device: str) -> list[list[Any]]:
    run = make(device)
    run().float().sum().backward()  # workspaces and gradients are there from the second run on
    with vramscope.profile(device=device) as profile:
        with profile.phase("forward"):
            result = run()
        result.float().sum().backward()
    ledger, events = profile.ledger, profile.recording.events
    requested = ledger.blocks.requested[ledger.blocks.of_event]
    sign = (events.size > 0) * 2 - 1
    return [
        [ledger.operator_at(row), ledger.phase_at(row), int(sign[row] * requested[row]), int(events.size[row])]
        for row in range(len(events))
        if events.device[row] == 0
    ]
