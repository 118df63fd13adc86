"""Why does training need more memory than inference? Each claim on an MLP, a CNN and a transformer."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vramscope.experiments.feature_maps import Holding, Watch, holdings
from vramscope.experiments.fits import Line, fit_line
from vramscope.experiments.frame import Announce, Experiment, Settings
from vramscope.experiments.profiled import (
    STEP_COUNTER,
    Profiled,
    Subject,
    profile_forward,
    profile_inference,
    profile_training,
    stack_of,
)
from vramscope.findings import Claim, Origin, Panel, PanelKind, Picture, Series
from vramscope.ledger.categories import Category
from vramscope.ledger.summary import PassSummary
from vramscope.units import format_size
from vramscope.workloads.losses import cross_entropy
from vramscope.workloads.models.checkpointing import run_block
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes
from vramscope.workloads.models.mlp import Mlp
from vramscope.workloads.models.resnet18 import BasicBlock
from vramscope.workloads.workload import Workload

LINEAR = 0.999
"""A fit that explains more than this share of the variance counts as a straight line."""
CLOSE = 0.1
"""Two amounts whose difference is at most this share of the larger one count as equal where a claim is rough."""
_CLASSES = 10


class ResidualCnn(nn.Module):
    """ResNet blocks of one width: ``[batch, 3, size, size]`` to ``[batch, classes]``, after He et al., 2016."""

    def __init__(self, channels: int, depth: int, checkpoint: bool) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(BasicBlock(channels, channels, 1) for _ in range(depth))
        self.head = nn.Linear(channels, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """``[batch, 3, size, size]`` to ``[batch, classes]``."""
        hidden: Tensor = self.stem(images)
        for block in self.blocks:
            hidden = run_block(block, hidden, self.checkpoint)
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class Sizes:
    """Of the models: width in features or channels, image size in pixels, tokens; batches and depths to go through."""

    mlp_width: int
    channels: int
    pixels: int
    token_width: int
    tokens: int
    batches: Mapping[str, tuple[int, ...]]
    depths: tuple[int, ...]

    def batch(self, model: str) -> int:
        """The batch at which a model's depth is varied and everything else is measured."""
        return self.batches[model][1]

    @property
    def depth(self) -> int:
        """The depth at which batch is varied and everything else is measured."""
        return self.depths[1]


@dataclass(frozen=True)
class Variant:
    """One of the models at one batch and depth, in samples and blocks."""

    model: str
    batch: int
    depth: int

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.model}, batch {self.batch}, depth {self.depth}"


@dataclass(frozen=True)
class Pair:
    """Inference and training of one variant, training with AdamW."""

    inference: Profiled
    training: Profiled

    @property
    def extra_bytes(self) -> int:
        """By how much training's peak is higher."""
        return self.training.summary.peak.bytes - self.inference.summary.peak.bytes

    @property
    def activation_share(self) -> float:
        """The part of training's peak that activations take."""
        peak = self.training.summary.peak
        return peak.by_category[Category.ACTIVATIONS] / peak.bytes


@dataclass(frozen=True)
class Controls:
    """One model, changed in one respect at a time.

    Attributes:
        sgd: training with plain SGD.
        checkpointed: training with the blocks' activations recomputed.
        with_gradients: a forward pass alone, gradients enabled.
        without_gradients: the same under ``no_grad``.
        learning_rates: how many numbers the optimizer keeps as learning rates.
        weights: elements of the parameters.
    """

    sgd: Profiled
    checkpointed: Profiled
    with_gradients: Profiled
    without_gradients: Profiled
    learning_rates: int
    weights: int


@dataclass(frozen=True)
class Maps:
    """Feature maps in an inference pass.

    Attributes:
        inference: the pass.
        holdings: what each module holds at its fullest moment.
        largest_pair_bytes: the largest two feature maps on either side of a layer.
        output_bytes: of the model's own output.
    """

    inference: Profiled
    holdings: tuple[Holding, ...]
    largest_pair_bytes: int
    output_bytes: int

    @property
    def held_bytes(self) -> int:
        """The most that inference holds besides parameters, buffers and inputs that are not being read."""
        return max(holding.held_bytes for holding in self.holdings)

    def evidence(self) -> dict[str, object]:
        """Every module that breaks the rule by name, with what it held besides its two maps."""
        exceptions = [{**asdict(h), "excess_bytes": h.excess_bytes} for h in self.holdings if h.excess_bytes]
        return {
            "held_bytes": self.held_bytes,
            "largest_pair_bytes": self.largest_pair_bytes,
            "modules": len(self.holdings),
            "exceptions": exceptions,
        }


@dataclass(frozen=True)
class Measured:
    """Every model's pairs over batch and depth, its controls and feature maps; and a plain chain of layers."""

    sizes: Sizes
    pairs: Mapping[Variant, Pair]
    controls: Mapping[str, Controls]
    maps: Mapping[str, Maps]
    chain: Maps

    @property
    def passes(self) -> dict[str, PassSummary]:
        """All profiled passes."""
        found = {}
        for variant, pair in self.pairs.items():
            found[f"inference, {variant.name}"] = pair.inference.summary
            found[f"training, {variant.name}"] = pair.training.summary
        for model, controls in self.controls.items():
            found[f"training with SGD, {model}"] = controls.sgd.summary
            found[f"training with checkpointing, {model}"] = controls.checkpointed.summary
            found[f"forward with gradients, {model}"] = controls.with_gradients.summary
            found[f"forward under no_grad, {model}"] = controls.without_gradients.summary
        found["inference, plain chain"] = self.chain.inference.summary
        return found

    def base(self, model: str) -> Pair:
        """A model at the batch and depth that everything else is measured at."""
        return self.pairs[Variant(model, self.sizes.batch(model), self.sizes.depth)]

    def largest(self, model: str) -> Pair:
        """A model at its largest batch."""
        return self.pairs[Variant(model, self.sizes.batches[model][-1], self.sizes.depth)]

    def over_batch(self, model: str) -> dict[int, Pair]:
        """A model's pairs by batch."""
        return {b: self.pairs[Variant(model, b, self.sizes.depth)] for b in self.sizes.batches[model]}

    def over_depth(self, model: str) -> dict[int, Pair]:
        """A model's pairs by depth."""
        return {d: self.pairs[Variant(model, self.sizes.batch(model), d)] for d in self.sizes.depths}


def sizes_of(settings: Settings) -> Sizes:
    """Sizes for a setting."""
    if settings.quick:
        few = (1, 4, 16)
        return Sizes(64, 8, 12, 32, 16, {"MLP": (16, 128, 1024), "CNN": few, "transformer": few}, (2, 4, 6))
    some = (1, 4, 16, 64)
    return Sizes(512, 32, 32, 128, 64, {"MLP": (16, 128, 1024, 8192), "CNN": some, "transformer": some}, (2, 4, 8, 12))


Builder = Callable[[Sizes, Variant, bool], tuple[nn.Module, Tensor, Tensor]]


def _build_mlp(sizes: Sizes, variant: Variant, checkpoint: bool) -> tuple[nn.Module, Tensor, Tensor]:
    model = Mlp((*[sizes.mlp_width] * (variant.depth + 1), _CLASSES), checkpoint)
    return model, torch.randn(variant.batch, sizes.mlp_width), torch.randint(_CLASSES, (variant.batch,))


def _build_cnn(sizes: Sizes, variant: Variant, checkpoint: bool) -> tuple[nn.Module, Tensor, Tensor]:
    model = ResidualCnn(sizes.channels, variant.depth, checkpoint)
    images = torch.randn(variant.batch, 3, sizes.pixels, sizes.pixels)
    return model, images, torch.randint(_CLASSES, (variant.batch,))


def _build_transformer(sizes: Sizes, variant: Variant, checkpoint: bool) -> tuple[nn.Module, Tensor, Tensor]:
    shape = Gpt2Sizes(vocabulary=256, context=sizes.tokens, width=sizes.token_width, layers=variant.depth, heads=4)
    tokens = torch.randint(shape.vocabulary, (variant.batch, sizes.tokens))
    return Gpt2(shape, checkpoint), tokens, tokens.roll(-1, dims=1)


MODELS: Mapping[str, Builder] = {"MLP": _build_mlp, "CNN": _build_cnn, "transformer": _build_transformer}


def _build_chain(sizes: Sizes) -> tuple[nn.Module, Tensor, Tensor]:
    """Layers in a row and nothing that holds on to what lies between them."""
    layers = [module for _ in range(sizes.depth) for module in (nn.Linear(sizes.mlp_width, sizes.mlp_width), nn.ReLU())]
    inputs = torch.randn(sizes.batch("MLP"), sizes.mlp_width)
    return nn.Sequential(*layers), inputs, torch.randint(sizes.mlp_width, (len(inputs),))


def _as_subject(
    name: str, build_parts: Callable[[], tuple[nn.Module, Tensor, Tensor]], watch: Watch | None = None
) -> Subject:
    """Something to profile; ``watch`` takes note of its feature maps."""

    def build() -> Workload:
        model, inputs, targets = build_parts()
        if watch is not None:
            watch.attach(model)
        return Workload(model, inputs, cross_entropy, targets)

    return Subject(name, build)


def subject_of(sizes: Sizes, variant: Variant, checkpoint: bool = False) -> Subject:
    """A variant as something to profile."""
    return _as_subject(variant.name, lambda: MODELS[variant.model](sizes, variant, checkpoint))


def variants_of(sizes: Sizes, model: str) -> tuple[Variant, ...]:
    """Every batch at one depth, and every depth at one batch."""
    over_batch = [Variant(model, batch, sizes.depth) for batch in sizes.batches[model]]
    over_depth = [Variant(model, sizes.batch(model), depth) for depth in sizes.depths]
    return tuple(dict.fromkeys([*over_batch, *over_depth]))


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
    return Measured(sizes, pairs, controls, maps, _measure_maps("chain", partial(_build_chain, sizes), settings))


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


def _measure_maps(name: str, build_parts: Callable[[], tuple[nn.Module, Tensor, Tensor]], settings: Settings) -> Maps:
    watch = Watch()
    inference = profile_inference(_as_subject(name, build_parts, watch), settings)
    found = holdings(inference.ledger, watch)
    return Maps(inference, found, watch.largest_pair_bytes(), sum(watch.outputs[""].values()))


# -- what is stored per weight ------------------------------------------------------------------------------------


def judge_gradients(measured: Measured, copies: int = 1) -> Claim:
    """The gradients when the optimizer takes over, in requested bytes."""
    found = {model: measured.base(model).training.requested_before("optimizer") for model in MODELS}
    gradients = {model: by_category[Category.GRADIENTS] for model, by_category in found.items()}
    parameters = {model: by_category[Category.PARAMETERS] for model, by_category in found.items()}
    return Claim(
        f"Training stores each weight's gradient: {copies} x the parameters' bytes",
        {model: gradients[model] == copies * parameters[model] for model in MODELS},
        ", ".join(f"{model} {gradients[model]:,} B for {parameters[model]:,} B of parameters" for model in MODELS),
        {"gradient_bytes": gradients, "parameter_bytes": parameters},
    )


def judge_learning_rates(measured: Measured) -> Claim:
    """The source's "and learning rates": one for each weight?"""
    stored = {model: sum(controls.sgd.state_bytes().values()) for model, controls in measured.controls.items()}
    rates = {model: controls.learning_rates for model, controls in measured.controls.items()}
    weights = {model: controls.weights for model, controls in measured.controls.items()}
    return Claim(
        "Training stores a learning rate for each weight",
        {
            **{f"{model}: as many learning rates as weights": rates[model] == weights[model] for model in MODELS},
            **{f"{model}: plain SGD stores something per weight": stored[model] >= weights[model] for model in MODELS},
        },
        ", ".join(f"{model} {rates[model]} learning rate for {weights[model]:,} weights" for model in MODELS),
        {"learning_rates": rates, "weights": weights, "sgd_state_bytes": stored},
    )


def judge_state(measured: Measured, copies: int = 2) -> Claim:
    """What is stored per weight instead: nothing by SGD, two moments by AdamW."""
    checks, words, evidence = {}, [], {}
    for model, controls in measured.controls.items():
        adam, sgd = measured.base(model).training, controls.sgd
        state = adam.state_bytes()
        moments = sum(size for name, size in state.items() if name != STEP_COUNTER)
        checks[f"{model}: AdamW"] = moments == copies * adam.parameter_bytes
        checks[f"{model}: SGD"] = sum(sgd.state_bytes().values()) == 0
        words.append(f"{model} {moments / adam.parameter_bytes:g} copies + {state[STEP_COUNTER]} B of counters")
        evidence[model] = {
            "adamw_state_bytes": state,
            "sgd_state_bytes": sgd.state_bytes(),
            "parameter_bytes": adam.parameter_bytes,
            "adamw_peak_bytes": adam.summary.peak.bytes,
            "sgd_peak_bytes": sgd.summary.peak.bytes,
        }
    statement = f"What is stored per weight besides is optimizer state: nothing with SGD, {copies} copies with AdamW"
    return Claim(statement, checks, ", ".join(words), evidence, Origin.CORRECTION)


def judge_optimizer_peak(measured: Measured) -> Claim:
    """The control of the state: SGD in AdamW's place lowers the peak by it, and by AdamW's temporaries at most."""
    checks, words, evidence = {}, [], {}
    for model, controls in measured.controls.items():
        adam = measured.base(model).training
        saved = adam.summary.peak.bytes - controls.sgd.summary.peak.bytes
        state = adam.most_bytes(Category.OPTIMIZER_STATE)
        temporaries = adam.most_bytes(Category.OPTIMIZER_TEMPORARIES)
        checks[model] = state <= saved <= state + temporaries
        words.append(f"{model} saves {format_size(saved)}, state {format_size(state)}")
        evidence[model] = {"saved_bytes": saved, "state_bytes": state, "temporary_bytes": temporaries}
    statement = "SGD instead of AdamW lowers training's peak by the state, and at most the step's temporaries"
    return Claim(statement, checks, ", ".join(words), evidence, Origin.CONTROL)


def judge_explanation(measured: Measured) -> Claim:
    """The source's explanation in bytes: one gradient and one more number for each weight, and nothing else."""
    checks, evidence = {}, {}
    for model in MODELS:
        for batch, pair in measured.over_batch(model).items():
            stated = 2 * pair.training.parameter_bytes
            off = abs(pair.extra_bytes - stated)
            checks[f"{model}, batch {batch}"] = off <= CLOSE * max(stated, pair.extra_bytes)
            evidence[f"{model}, batch {batch}"] = {"extra_bytes": pair.extra_bytes, "explained_bytes": stated}
    last = {model: measured.largest(model) for model in MODELS}
    shares = ", ".join(f"{m} {2 * pair.training.parameter_bytes / pair.extra_bytes:.0%}" for m, pair in last.items())
    return Claim(
        "A gradient and a learning rate for each weight are what training needs more than inference",
        checks,
        f"explained at the largest batch: {shares} of the difference",
        evidence,
    )


# -- what is retained for backward --------------------------------------------------------------------------------


def judge_batch(measured: Measured) -> Claim:
    """Retained activations against batch."""
    fits = {
        model: _fit({b: p.training.retained_bytes for b, p in measured.over_batch(model).items()}) for model in MODELS
    }
    return Claim(
        "Activations retained for backward grow linearly with the batch",
        {model: fit.r_squared > LINEAR and fit.slope > 0 for model, fit in fits.items()},
        ", ".join(
            f"{model} {format_size(round(fit.slope))} per sample (R² {fit.r_squared:.6f})"
            for model, fit in fits.items()
        ),
        {
            model: {
                "fit": asdict(fits[model]),
                "retained_bytes_by_batch": {
                    str(b): p.training.retained_bytes for b, p in measured.over_batch(model).items()
                },
            }
            for model in MODELS
        },
        Origin.CORRECTION,
    )


def judge_dominance(measured: Measured) -> Claim:
    """The source leaves activations out: their share of training's peak."""
    shares = {model: {b: p.activation_share for b, p in measured.over_batch(model).items()} for model in MODELS}
    return Claim(
        "As the batch grows, activations, which the source leaves out, become the largest part of training's peak",
        {
            **{f"{model}: their share grows": _rises(list(by.values())) for model, by in shares.items()},
            **{f"{model}: over half at the largest batch": by[max(by)] > 0.5 for model, by in shares.items()},
        },
        "share of the peak: "
        + ", ".join(
            f"{model} {by[min(by)]:.0%} (batch {min(by)}) to {by[max(by)]:.0%} (batch {max(by)})"
            for model, by in shares.items()
        ),
        {"share_of_training_peak": {model: {str(b): s for b, s in by.items()} for model, by in shares.items()}},
        Origin.CORRECTION,
    )


def judge_depth(measured: Measured) -> Claim:
    """Retained activations against depth."""
    fits = {
        model: _fit({d: p.training.retained_bytes for d, p in measured.over_depth(model).items()}) for model in MODELS
    }
    return Claim(
        "Activations retained for backward grow linearly with depth",
        {model: fit.r_squared > LINEAR and fit.slope > 0 for model, fit in fits.items()},
        ", ".join(
            f"{model} {format_size(round(fit.slope))} per block (R² {fit.r_squared:.6f})" for model, fit in fits.items()
        ),
        {
            model: {
                "fit": asdict(fits[model]),
                "retained_bytes_by_depth": {
                    str(d): p.training.retained_bytes for d, p in measured.over_depth(model).items()
                },
            }
            for model in MODELS
        },
        Origin.CORRECTION,
    )


def judge_no_grad(measured: Measured) -> Claim:
    """The control: the same forward pass, with and without a graph."""
    kept = {model: c.with_gradients.held_after_forward() for model, c in measured.controls.items()}
    bare = {model: c.without_gradients.held_after_forward() for model, c in measured.controls.items()}
    output = {model: maps.output_bytes for model, maps in measured.maps.items()}
    return Claim(
        "It is autograd that retains them: under no_grad the same forward pass keeps nothing but its output",
        {
            **{f"{model}: under no_grad only the output": bare[model] == output[model] for model in MODELS},
            **{f"{model}: more with gradients": kept[model] > bare[model] for model in MODELS},
        },
        ", ".join(f"{model} {format_size(kept[model])} with, {format_size(bare[model])} without" for model in MODELS),
        {"held_with_gradients_bytes": kept, "held_under_no_grad_bytes": bare, "output_bytes": output},
        Origin.CONTROL,
    )


def judge_checkpointing(measured: Measured) -> Claim:
    """The control: what is recomputed need not be retained."""
    plain = {model: measured.base(model).training for model in MODELS}
    saved = {model: controls.checkpointed for model, controls in measured.controls.items()}
    return Claim(
        "Checkpointing, which recomputes activations, lowers what is retained and training's peak",
        {
            **{f"{m}: retained": saved[m].retained_bytes < plain[m].retained_bytes for m in MODELS},
            **{f"{m}: peak": saved[m].summary.peak.bytes < plain[m].summary.peak.bytes for m in MODELS},
        },
        ", ".join(
            f"{m} retains {format_size(saved[m].retained_bytes)} instead of {format_size(plain[m].retained_bytes)}"
            for m in MODELS
        ),
        {
            m: {
                "retained_bytes": plain[m].retained_bytes,
                "checkpointed_retained_bytes": saved[m].retained_bytes,
                "recomputed_peak_bytes": saved[m].summary.activations.recomputed_peak_bytes,
                "peak_bytes": plain[m].summary.peak.bytes,
                "checkpointed_peak_bytes": saved[m].summary.peak.bytes,
            }
            for m in MODELS
        },
        Origin.QUESTION,
    )


# -- what inference holds -----------------------------------------------------------------------------------------


def judge_discards(measured: Measured) -> Claim:
    """The source: inference discards activations as it goes, so depth must not matter to what is transient."""
    transient = {
        model: {d: p.inference.summary.activations.transient_peak_bytes for d, p in measured.over_depth(model).items()}
        for model in MODELS
    }
    return Claim(
        "Inference discards activations as it goes: what it holds of them does not grow with depth",
        {model: len(set(by_depth.values())) == 1 for model, by_depth in transient.items()},
        ", ".join(
            f"{m} {format_size(max(by.values()))} at any depth"
            if len(set(by.values())) == 1
            else f"{m} {format_size(min(by.values()))} to {format_size(max(by.values()))}"
            for m, by in transient.items()
        ),
        {"transient_peak_bytes_by_depth": {m: {str(d): size for d, size in by.items()} for m, by in transient.items()}},
    )


def judge_two_maps(measured: Measured) -> Claim:
    """The source's rule, model by model; the evidence names every module that breaks it and what it held besides."""
    return Claim(
        "Besides the parameters inference holds two feature maps at a time: the input and the output of a layer",
        {model: maps.held_bytes <= maps.largest_pair_bytes for model, maps in measured.maps.items()},
        ", ".join(
            f"{model} holds {maps.held_bytes / maps.largest_pair_bytes:.2f} times its largest pair, most in "
            f"{max(maps.holdings, key=lambda holding: holding.held_bytes).path}"
            for model, maps in measured.maps.items()
        ),
        {model: maps.evidence() for model, maps in measured.maps.items()},
    )


def judge_chain(measured: Measured) -> Claim:
    """Where the rule is right: nothing else refers to a feature map, and no operator needs a workspace."""
    chain = measured.chain
    return Claim(
        "In a plain chain of linear layers and ReLU, without residuals, workspaces or a variable that keeps a block's "
        "input, the rule of two feature maps is exact",
        {
            "the peak is the largest pair": chain.held_bytes == chain.largest_pair_bytes,
            "no layer holds more": all(holding.excess_bytes <= 0 for holding in chain.holdings),
        },
        f"{chain.held_bytes:,} B held, {chain.largest_pair_bytes:,} B in the largest pair",
        chain.evidence(),
        Origin.CONTROL,
    )


def _fit(values: Mapping[int, int]) -> Line:
    return fit_line(list(values), list(values.values()))


def _rises(values: list[float]) -> bool:
    return all(before < after for before, after in itertools.pairwise(values))


# -- answer and figure --------------------------------------------------------------------------------------------


def _answer(measured: Measured) -> str:
    pairs = {model: measured.largest(model) for model in MODELS}
    ratios = {m: p.training.summary.peak.bytes / p.inference.summary.peak.bytes for m, p in pairs.items()}
    return (
        "It keeps a gradient and the optimizer's state for each weight, and above all the activations: at the largest "
        f"batch {', '.join(f'{p.activation_share:.0%} ({m})' for m, p in pairs.items())} of a peak that is "
        f"{', '.join(f'{ratio:.1f} ({m})' for m, ratio in ratios.items())} times that of inference."
    )


def _draw(measured: Measured) -> Picture:
    shares = [measured.largest(model).activation_share for model in MODELS]
    headline = f"Activations, which inference discards, fill {min(shares):.0%} to {max(shares):.0%} of training's peak"
    return Picture(headline, (_peaks(measured), _growth(measured), _maps(measured)))


def _peaks(measured: Measured) -> Panel:
    """Both passes of every model, in multiples of its inference peak."""
    names, peaks, units = [], [], []
    for model in MODELS:
        pair = measured.largest(model)
        for name, profile in (("inference", pair.inference), ("training", pair.training)):
            names.append(f"{model} {name}")
            peaks.append(profile.summary.peak.by_category)
            units.append(float(pair.inference.summary.peak.bytes))
    title = "Memory at the peak, largest batch"
    y_label = "multiples of inference's peak"
    return Panel(title, "model and pass", y_label, stack_of(peaks, units), PanelKind.STACK, tuple(names))


def _growth(measured: Measured) -> Panel:
    series = []
    for model in MODELS:
        shares = {float(batch): 100 * pair.activation_share for batch, pair in measured.over_batch(model).items()}
        series.append(Series(model, tuple(shares.values()), tuple(shares)))
    return Panel("Activations in training", "batch (samples)", "share of the peak (%)", tuple(series), log_x=True)


def _maps(measured: Measured) -> Panel:
    found = {"chain": measured.chain, **measured.maps}
    held = tuple(maps.held_bytes / maps.largest_pair_bytes for maps in found.values())
    series = (Series("held at inference's peak", held),)
    title = "Held in inference"
    levels = {"two\nmaps": 1.0}
    return Panel(title, "model", "multiples of the largest pair", series, PanelKind.BARS, tuple(found), levels)


EXPERIMENT = Experiment(
    name="training-vs-inference",
    question="Why does training need more memory than inference?",
    measure=measure,
    rules=(
        judge_gradients,
        judge_learning_rates,
        judge_state,
        judge_optimizer_peak,
        judge_explanation,
        judge_batch,
        judge_dominance,
        judge_depth,
        judge_no_grad,
        judge_checkpointing,
        judge_discards,
        judge_two_maps,
        judge_chain,
    ),
    answer=_answer,
    draw=_draw,
    count=lambda settings: 1 + sum(len(variants_of(sizes_of(settings), model)) + 1 for model in MODELS),
)
