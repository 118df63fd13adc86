"""Which remedies are offered: those that would change something."""

import pytest

from vramscope.allocator.settings import AllocatorSettings
from vramscope.predict.remedies import Plan, remedies_for
from vramscope.predict.setup import Setup
from vramscope.predict.trainable import Trainable
from vramscope.workloads.workload import WorkloadOptions


def names(options=None, settings=None, setup=None, over="batch", size=5):
    plan = Plan(
        "mlp", WorkloadOptions(**(options or {})), "training", settings or AllocatorSettings(), setup or Setup()
    )
    return [remedy.name for remedy in remedies_for(plan, over, size)]


EVERY = [
    *("amp bfloat16", "expandable_segments:True", "checkpoint", "accumulate 2 x 3"),
    *("optimizer fused", "optimizer sgd", "optimizer adamw8bit"),
    *("LoRA, the rest frozen", "last layer, the rest frozen"),
]


def test_every_remedy():
    assert names() == EVERY


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        ({"options": {"amp": "float16"}}, {"amp bfloat16"}),
        ({"options": {"dtype": "bfloat16"}}, {"amp bfloat16"}),
        ({"settings": AllocatorSettings(expandable_segments=True)}, {"expandable_segments:True"}),
        ({"options": {"checkpoint": True}}, {"checkpoint"}),
        ({"options": {"accumulate": 2}}, {"accumulate 2 x 3"}),
        ({"over": "seq"}, {"accumulate 2 x 3"}),
        ({"size": 1}, {"accumulate 2 x 3"}),
        ({"options": {"fused": True}}, {"optimizer fused"}),
        ({"options": {"optimizer": "sgd"}}, {"optimizer sgd"}),
        ({"options": {"optimizer": "SGD"}}, {"optimizer sgd"}),
        ({"options": {"optimizer": "adamw8bit"}}, {"optimizer adamw8bit"}),
        ({"setup": Setup(Trainable.LORA)}, {"LoRA, the rest frozen", "last layer, the rest frozen"}),
    ],
)
def test_what_is_so_already_is_no_remedy(given, left_out):
    assert [name for name in EVERY if name not in left_out] == names(**given)


def test_momentum_is_what_plain_sgd_would_save():
    assert "optimizer sgd" in names({"optimizer": "sgd:momentum=0.9"})
