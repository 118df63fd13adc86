"""Gradient accumulation: predicted on the CPU's rules, against a loop as people write it, recorded for real."""

import gc

import torch
from torch.nn import functional

import vramscope
from exactness.test_virtual import predict_pass
from helpers import FLOAT32, assert_agrees
from vramscope.ledger.categories import Category
from vramscope.ledger.summary import summarize_ledger
from vramscope.workloads.models.mlp import Mlp

BATCH, MICRO_BATCHES, STEPS = 16, 4, 3
PARAMETERS = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10


def recorded_loop():
    gc.collect()
    model = Mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    images, targets = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    with vramscope.profile(model, optimizer, inputs=(images, targets)) as profile:
        for index in range(STEPS):
            with profile.step(index):
                optimizer.zero_grad()
                for _ in range(MICRO_BATCHES):
                    outputs = loss = None  # those of the micro-batch before
                    outputs = model(images)
                    loss = functional.cross_entropy(outputs, targets) / MICRO_BATCHES
                    loss.backward()
                optimizer.step()
                del outputs, loss
    return profile.summary


def kept(level):
    """Bytes by category; scratch inside one operator is the kernel's own business."""
    return {category: size for category, size in level.by_category.items() if category != Category.WORKSPACE}


def test_every_category_is_that_of_a_recorded_loop_to_the_byte():
    recorded = recorded_loop()
    ledger = predict_pass("mlp", "training", batch=BATCH, accumulate=MICRO_BATCHES, steps=STEPS - 1)
    assert_agrees(ledger)
    predicted = summarize_ledger(ledger)
    assert kept(predicted.peak) == kept(recorded.peak)
    for phase in recorded.phases:
        assert kept(predicted.phases[phase]) == kept(recorded.phases[phase])
    # from the second micro-batch on, gradients are there while activations are made
    assert recorded.phases["forward"].by_category[Category.GRADIENTS] == PARAMETERS * FLOAT32


def test_micro_batches_keep_the_activations_of_one_and_cost_the_gradients_in_forward():
    one = summarize_ledger(predict_pass("mlp", "training", batch=BATCH, steps=1))
    four = summarize_ledger(predict_pass("mlp", "training", batch=BATCH, accumulate=4, steps=1))
    # the division's backward keeps its divisor, a number wrapped as a tensor of 8 bytes
    assert four.activations.retained_bytes == one.activations.retained_bytes + 8
    assert one.phases["forward"].by_category[Category.GRADIENTS] == 0
    assert four.phases["forward"].by_category[Category.GRADIENTS] == PARAMETERS * FLOAT32
