"""Every variant profiled in both passes, and the controls."""

from collections.abc import Callable
from functools import partial

import torch

from vramscope.experiments.frame import Announce, Settings
from vramscope.experiments.profiled import profile_forward, profile_inference, profile_training
from vramscope.experiments.training_vs_inference.feature_maps import Watch, holdings
from vramscope.experiments.training_vs_inference.measured import Controls, Maps, Measured, Pair
from vramscope.experiments.training_vs_inference.models import (
    MODELS,
    Parts,
    as_subject,
    build_chain,
    subject_of,
)
from vramscope.experiments.training_vs_inference.sizes import Sizes, Variant, sizes_of, variants_of


def measure(settings: Settings, announce: Announce) -> Measured:
    """Profile everything."""
    sizes = sizes_of(settings)
    pairs, controls, maps = {}, {}, {}
    for model, build in MODELS.items():
        for variant in variants_of(sizes, model):
            announce(f"training-vs-inference: {variant.name}")
            subject = subject_of(sizes, variant)
            pairs[variant] = Pair(profile_inference(subject, settings), profile_training(subject, settings, "adamw"))
        announce(f"training-vs-inference: {model}, controls")
        base = Variant(model, sizes.batch(model), sizes.depth)
        controls[model] = _measure_controls(sizes, base, settings)
        maps[model] = _measure_maps(base.name, partial(build, sizes, base, False), settings)
    announce("training-vs-inference: a plain chain")
    return Measured(sizes, pairs, controls, maps, _measure_maps("chain", partial(build_chain, sizes), settings))


def _measure_controls(sizes: Sizes, variant: Variant, settings: Settings) -> Controls:
    subject = subject_of(sizes, variant)
    model = subject.build().model
    optimizer = torch.optim.AdamW(model.parameters())
    return Controls(
        sgd=profile_training(subject, settings, "sgd"),
        checkpointed=profile_training(subject_of(sizes, variant, checkpoint=True), settings, "adamw"),
        with_gradients=profile_forward(subject, settings, gradients=True),
        without_gradients=profile_forward(subject, settings, gradients=False),
        learning_rates=len(optimizer.param_groups),
        weights=sum(parameter.numel() for parameter in model.parameters()),
    )


def _measure_maps(name: str, build_parts: Callable[[], Parts], settings: Settings) -> Maps:
    watch = Watch()
    inference = profile_inference(as_subject(name, build_parts, watch), settings)
    found = holdings(inference.ledger, watch)
    return Maps(inference, found, watch.largest_pair_bytes(), sum(watch.outputs[""].values()))
