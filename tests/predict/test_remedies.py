"""Which remedies are offered: those that would change something."""

import pytest

from vramscope.allocator.settings import AllocatorSettings
from vramscope.predict.remedies import Plan, remedies_for
from vramscope.predict.setup import Setup
from vramscope.predict.trainable import Trainable
from vramscope.workloads.workload import WorkloadOptions


def planned(options=None, settings=None, setup=None, name="training"):
    return Plan("mlp", WorkloadOptions(**(options or {})), name, settings or AllocatorSettings(), setup or Setup())


def names(options=None, settings=None, setup=None, over="batch", size=5):
    return [remedy.name for remedy in remedies_for(planned(options, settings, setup), over, size)]


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


def test_halves_are_batches_that_can_be_run():
    # of 6 in pairs a half of 3 cannot be
    assert "accumulate 2 x 4" in [remedy.name for remedy in remedies_for(planned(), "batch", 6, unit=2)]
    assert not any("accumulate" in remedy.name for remedy in remedies_for(planned(), "batch", 2, unit=2))


def test_momentum_is_what_plain_sgd_would_save():
    assert "optimizer sgd" in names({"optimizer": "sgd:momentum=0.9"})


def test_inference_has_nothing_to_train():
    assert [one.name for one in remedies_for(planned(name="inference"), "batch", 5)] == EVERY[:2]


def test_a_remedy_changes_what_it_says_and_nothing_else():
    options = {"batch": 5, "optimizer": "adam", "foreach": True}
    plan = planned(options)
    changed = {remedy.name: remedy.apply(plan) for remedy in remedies_for(plan, "batch", 5)}
    assert list(changed) == EVERY
    assert changed == {
        "amp bfloat16": planned({**options, "amp": "bfloat16"}),
        "expandable_segments:True": planned(options, settings=AllocatorSettings(expandable_segments=True)),
        "checkpoint": planned({**options, "checkpoint": True}),
        "accumulate 2 x 3": planned({**options, "batch": 3, "accumulate": 2}),  # 6 of which 5 are wanted
        "optimizer fused": planned({**options, "fused": True, "foreach": None}),
        "optimizer sgd": planned({**options, "optimizer": "sgd", "foreach": None}),
        "optimizer adamw8bit": planned({**options, "optimizer": "adamw8bit", "foreach": None}),
        "LoRA, the rest frozen": planned(options, setup=Setup(Trainable.LORA)),
        "last layer, the rest frozen": planned(options, setup=Setup(Trainable.LAST)),
    }
