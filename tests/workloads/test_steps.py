import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vramscope.errors import WorkloadError
from vramscope.workloads.built_ins import BuiltInSource
from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.losses import default_loss
from vramscope.workloads.models import BUILT_INS, gpt2, lstm, mlp, resnet18, vit_b16
from vramscope.workloads.optimizers import plan
from vramscope.workloads.steps import NoPhases, inference_step, training_step
from vramscope.workloads.targets import Target, resolve
from vramscope.workloads.workload import PreparedWorkload, WorkloadOptions

ONEDNN_HAS_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Log:
    """Phases that write down when they begin and end."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.events.append(f"<{name}")
        try:
            yield
        finally:
            self.events.append(f"{name}>")


class Scale(nn.Module):
    """Multiplies by a parameter; ``record`` is called in its forward."""

    def __init__(self, record: Callable[[Tensor], Any] = lambda _: None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))
        self.record = record

    def forward(self, x: Tensor) -> Tensor:
        output = x * self.weight
        self.record(output)
        return output


class Argmax(Scale):
    """Returns whole numbers, of which no loss can be made."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax()


def mean(outputs: Tensor, targets: Any) -> Tensor:
    return outputs.mean()


def prepared(model: nn.Module, *, x: Any = None, optimizer: str = "sgd", **changes: Any) -> PreparedWorkload:
    arguments = ((torch.ones(3) if x is None else x,), {})
    workload = PreparedWorkload(
        name="m",
        target="m",
        model=model,
        inputs=arguments,
        training_inputs=arguments,
        loss=mean,
        targets=None,
        make_optimizers=plan(optimizer).build,
        optimizer=optimizer,
        batch=1,
        seq=None,
        dtype="float32",
        device="cpu",
        amp=None,
        seed=0,
    )
    return replace(workload, **changes)


def train(workload: PreparedWorkload, phases: Any = None, steps: int = 1) -> list[float]:
    losses: list[float] = []
    optimizers = workload.build_optimizers()
    for _ in range(steps):
        training_step(workload, optimizers, phases or NoPhases(), losses.append)
    return losses


TINY_GPT2 = gpt2.Gpt2Sizes(vocabulary=50, context=16, width=8, layers=2, heads=2)
TINY_VIT = vit_b16.VitSizes(image=32, patch=8, width=8, layers=2, heads=2, mlp=16, classes=10)


def tiny(name: str) -> Target:
    """A small sister of a built-in: narrow, with 50 words, or with 10 classes and images of 32x32."""
    builds = {
        "mlp": lambda checkpoint: mlp.Mlp(checkpoint=checkpoint),
        "resnet18": lambda checkpoint: resnet18.ResNet18(10, 4, checkpoint),
        "vit_b16": lambda checkpoint: vit_b16.VisionTransformer(TINY_VIT, checkpoint),
        "gpt2": lambda checkpoint: gpt2.Gpt2(TINY_GPT2, checkpoint),
        "lstm": lambda _: lstm.LstmLanguageModel(lstm.LstmSizes(50, 8)),
    }
    small: dict[str, Any] = {"build": builds[name]}
    if name in ("gpt2", "lstm"):
        small["inputs"] = lambda batch, seq: InputSpec("tokens", "int64", (batch, seq), 50)
        small["targets"] = lambda batch, seq: InputSpec("targets", "int64", (batch, seq), 50)
    elif name != "mlp":
        small["inputs"] = lambda batch, _: InputSpec("images", "float32", (batch, 3, 32, 32))
        small["targets"] = lambda batch, _: InputSpec("targets", "int64", (batch,), 10)
    return Target(name, BuiltInSource(replace(BUILT_INS[name], **small)))


def tiny_options(name: str, **changes: Any) -> WorkloadOptions:
    seq = 8 if BUILT_INS[name].seq else None
    return WorkloadOptions(**{"batch": 2, "seq": seq, "optimizer": "sgd", **changes})


def test_phases_of_an_inference_step() -> None:
    log = Log()
    inference_step(prepared(Scale()), log)
    assert log.events == ["<forward", "forward>"]


def test_phases_of_a_training_step() -> None:
    log = Log()
    train(prepared(Scale()), log)
    assert log.events == ["<forward", "forward>", "<backward", "backward>", "<optimizer", "optimizer>"]


def test_phases_of_a_step_of_three_micro_batches() -> None:
    log = Log()
    train(prepared(Scale(), accumulate=3), log)
    assert log.events == [*["<forward", "forward>", "<backward", "backward>"] * 3, "<optimizer", "optimizer>"]


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.5", "lbfgs:lr=0.5,max_iter=1"])
def test_micro_batches_of_the_same_inputs_give_the_gradient_of_one(optimizer: str) -> None:
    # w' = 2 - 0.5 * 2 = 1 whether the gradient 2 comes at once or as 4 times 2/4
    model = Scale()
    train(prepared(model, x=torch.tensor([1.0, 2.0, 3.0]), optimizer=optimizer, accumulate=4))
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 2.0


def test_a_micro_batch_is_dropped_before_the_next() -> None:
    alive: list[int] = []
    seen: list[Any] = []

    def record(output: Tensor) -> None:
        alive.append(sum(reference() is not None for reference in seen))
        seen.append(weakref.ref(output))

    train(prepared(Scale(record), accumulate=3))
    assert alive == [0, 0, 0]


def test_a_closure_opens_its_phases_inside_the_optimizer_s() -> None:
    log = Log()
    # LBFGS with one iteration evaluates the closure once
    train(prepared(Scale(), optimizer="lbfgs:max_iter=1"), log)
    assert log.events == ["<optimizer", "<forward", "forward>", "<backward", "backward>", "optimizer>"]


def test_a_closure_is_evaluated_as_often_as_the_optimizer_likes() -> None:
    log = Log()
    model = nn.Linear(3, 1)
    loss = lambda outputs, targets: outputs.square().sum()  # noqa: E731 - a loss in a table of fields
    (value,) = train(prepared(model, optimizer="lbfgs:max_iter=4,lr=0.1", loss=loss), log)
    assert log.events.count("<forward") == log.events.count("<backward") == 4
    assert loss(model(torch.ones(3)), None).item() < value


def test_modes() -> None:
    seen: list[tuple[bool, bool, bool]] = []
    model = Scale(lambda _: seen.append((model.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled())))
    workload = prepared(model)
    inference_step(workload, NoPhases())
    train(workload)
    inference_step(workload, NoPhases())
    assert seen == [(False, False, True), (True, True, False), (False, False, True)]


def test_an_sgd_step_is_the_one_derived_by_hand() -> None:
    # y = w x, loss = mean(y) = w mean(x): d loss / d w = mean(x) = 2; w' = 2 - 0.5 * 2 = 1
    model = Scale()
    losses = train(prepared(model, x=torch.tensor([1.0, 2.0, 3.0]), optimizer="sgd:lr=0.5"), steps=2)
    # loss = w * 2: 4, then 2; w'' = 1 - 0.5 * 2 = 0
    assert losses == [4.0, 2.0]
    assert model.weight.item() == 0.0


def test_gradients_are_cleared_before_the_first_phase_and_kept_after_the_last() -> None:
    class Watch(Log):
        def phase(self, name: str) -> Any:
            gradients.append(None if model.weight.grad is None else model.weight.grad.item())
            return super().phase(name)

    gradients: list[float | None] = []
    model = Scale()
    train(prepared(model, optimizer="sgd:lr=0"), Watch(), steps=2)
    # before forward, backward and optimizer of each step; d mean(w * 1) / d w = 1
    assert gradients == [None, None, 1.0, None, None, 1.0]
    assert model.weight.grad is not None


def test_the_training_arguments_are_used_in_training_alone() -> None:
    class Labelled(Scale):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
            seen.append(labels is not None)
            return super().forward(x)

    seen: list[bool] = []
    x = torch.ones(3)
    workload = prepared(Labelled(), training_inputs=((x,), {"labels": x}))
    inference_step(workload, NoPhases())
    train(workload)
    assert seen == [False, True]


def test_the_loss_gets_outputs_and_targets() -> None:
    workload = prepared(Scale(), targets={"y": torch.tensor(5.0)}, loss=lambda y, t: (y.mean() - t["y"]) ** 2)
    assert train(workload) == [9.0]  # (2 - 5) ** 2


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs:max_iter=2"])
def test_a_training_step_keeps_no_output_and_no_loss(optimizer: str) -> None:
    kept: list[weakref.ref[Any]] = []

    def loss(outputs: Tensor, _: Any) -> Tensor:
        value = outputs.mean()
        kept.append(weakref.ref(value))
        return value

    model = Scale(lambda output: kept.append(weakref.ref(output)))
    workload = prepared(model, optimizer=optimizer, loss=loss)
    optimizers = workload.build_optimizers()
    with collector_off():  # nothing may wait for the collector: its time would be the profile's
        assert training_step(workload, optimizers, NoPhases()) is None
        assert len(kept) >= 2  # an output and a loss, or several of both
        assert all(reference() is None for reference in kept)


def test_outputs_live_until_the_optimizer_has_stepped() -> None:
    class Watch(Log):
        @contextmanager
        def phase(self, name: str) -> Iterator[None]:
            with super().phase(name):
                yield
                alive.append(outputs[-1]() is not None)

    outputs: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []
    train(prepared(Scale(lambda output: outputs.append(weakref.ref(output)))), Watch())
    assert alive == [True, True, True]


def test_an_inference_step_keeps_no_output() -> None:
    kept: list[weakref.ref[Tensor]] = []
    workload = prepared(Scale(lambda output: kept.append(weakref.ref(output))))
    with collector_off():
        assert inference_step(workload, NoPhases()) is None
        assert kept[0]() is None


@contextmanager
def collector_off() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_autocast_covers_forward_and_loss_alone() -> None:
    class Watch(Log):
        @contextmanager
        def phase(self, name: str) -> Iterator[None]:
            with super().phase(name):
                yield
                enabled.append(torch.is_autocast_enabled("cpu"))

    def loss(outputs: Tensor, _: Any) -> Tensor:
        seen.append((outputs.dtype, torch.is_autocast_enabled("cpu")))
        return outputs.float().mean()

    seen: list[tuple[torch.dtype, bool]] = []
    enabled: list[bool] = []
    model = nn.Linear(3, 2)
    workload = prepared(model, x=torch.ones(1, 3), amp="bfloat16", loss=loss)
    train(workload, Watch())
    assert seen == [(torch.bfloat16, True)]
    # the phase ends after autocast, which frees its casts of the weights, has ended
    assert enabled == [False, False, False]
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32


def failing(phase: str) -> PreparedWorkload:
    if phase == "forward":
        return prepared(nn.Linear(5, 2))
    if phase == "backward":
        return prepared(Scale(), loss=lambda outputs, targets: outputs.detach().mean())
    embedding = nn.Embedding(10, 4, sparse=True)
    return prepared(embedding, x=torch.zeros(1, dtype=torch.int64), optimizer="adam")


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("forward", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("backward", "RuntimeError: element 0 of tensors does not require grad"),
        ("optimizer", "RuntimeError: Adam does not support sparse gradients"),
    ],
)
def test_a_failure_names_its_phase_in_one_line_and_keeps_its_cause(phase: str, words: str) -> None:
    log = Log()
    with pytest.raises(WorkloadError) as caught:
        train(failing(phase), log)
    message = str(caught.value)
    assert message.startswith(f"{phase} failed: {words}")
    assert "; check " in message
    assert "\n" not in message
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert log.events[-1] == f"{phase}>"  # closed all the same


def test_a_failure_in_inference_names_forward() -> None:
    with pytest.raises(WorkloadError, match=r"^forward failed: RuntimeError: mat1 and mat2"):
        inference_step(failing("forward"), NoPhases())


@pytest.mark.parametrize(
    ("targets", "called"),
    [(None, "loss(outputs, None), as there are no targets="), (torch.ones(1, 2), "loss(outputs, targets)")],
)
def test_a_failing_loss_is_named_with_how_it_is_called(targets: Tensor | None, called: str) -> None:
    workload = prepared(nn.Linear(3, 2), x=torch.ones(1, 3), loss=lambda outputs: outputs.sum(), targets=targets)
    with pytest.raises(WorkloadError, match=r"^the loss failed: TypeError: .* takes 1 positional argument") as caught:
        train(workload)
    assert str(caught.value).endswith(f"; it is called as {called}")


def test_what_this_processor_cannot_do_is_not_blamed_on_the_inputs() -> None:
    def refuse(_: Tensor) -> None:
        raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive. Run.")

    with pytest.raises(WorkloadError, match=r"^forward failed: .* processor: take float32, or set ") as caught:
        train(prepared(Scale(refuse)))
    assert "check" not in str(caught.value)


@pytest.mark.skipif(ONEDNN_HAS_BFLOAT16, reason="this processor has bfloat16 in oneDNN")
def test_onednn_says_so_in_these_words_and_the_advice_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = tiny("lstm").prepare(tiny_options("lstm", amp="bfloat16"))
    with pytest.raises(WorkloadError, match=r"mkldnn\.enabled = False"):
        inference_step(workload, NoPhases())
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    inference_step(workload, NoPhases())
    train(workload)


def test_a_failure_names_the_user_s_line() -> None:
    def fail(_: Tensor) -> None:
        raise ValueError("out of ideas")

    with pytest.raises(WorkloadError) as caught:
        train(prepared(Scale(fail)))
    line = fail.__code__.co_firstlineno + 1
    here = Path(__file__)
    this_file = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    assert f"ValueError: out of ideas ({this_file}:{line})" in str(caught.value)


def test_a_failure_inside_a_closure_names_the_inner_phase() -> None:
    workload = prepared(Scale(), optimizer="lbfgs", loss=lambda outputs, targets: outputs.detach().mean())
    with pytest.raises(WorkloadError, match=r"^backward failed"):
        train(workload)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda outputs, targets: 3.0, "the loss is a float: it must be a tensor of one element"),
        (lambda outputs, targets: outputs, r"the loss has the shape \[3\]: reduce it to one element"),
    ],
)
def test_what_is_no_loss_is_refused(loss: Any, words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        train(prepared(Scale(), loss=loss))


def test_no_loss_to_be_had() -> None:
    with pytest.raises(
        WorkloadError, match=r"^no loss to be had: forward returned Tensor .* give a Workload with loss="
    ):
        train(prepared(Argmax(), loss=default_loss))


def test_ctrl_c_is_not_dressed_up_as_a_failure() -> None:
    def interrupt(_: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared(Scale(interrupt)))


CASES = [
    (name, changes)
    for name, built_in in sorted(BUILT_INS.items())
    for changes in ({}, {"dtype": "bfloat16"}, {"amp": "bfloat16"}, {"checkpoint": True})
    if not (changes.get("checkpoint") and built_in.no_checkpoint)
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_every_built_in_runs_both_steps(name: str, changes: dict[str, Any]) -> None:
    if name == "lstm" and changes.get("amp") and not ONEDNN_HAS_BFLOAT16:
        pytest.skip("this processor has no bfloat16 in oneDNN")
    workload = tiny(name).prepare(tiny_options(name, **changes))
    inference_step(workload, NoPhases())
    losses = train(workload, steps=2)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert len(losses) == 2
    assert all(parameter.grad is not None for parameter in workload.model.parameters())


@pytest.mark.parametrize("name", sorted(BUILT_INS))
def test_every_built_in_runs_both_steps_at_full_size(name: str) -> None:
    seq = 8 if BUILT_INS[name].seq else None
    workload = resolve(name).prepare(WorkloadOptions(batch=1, seq=seq, optimizer="sgd"))
    inference_step(workload, NoPhases())
    assert torch.isfinite(torch.tensor(train(workload))).all()


@pytest.mark.parametrize("name", sorted(BUILT_INS))
def test_a_seed_fixes_every_loss_and_weight_to_the_bit(name: str) -> None:
    def run(seed: int) -> tuple[list[float], list[Tensor]]:
        workload = tiny(name).prepare(tiny_options(name, seed=seed))
        return train(workload, steps=3), list(workload.model.parameters())

    (losses, weights), (again, weights_again), (other, _) = run(0), run(0), run(1)
    assert losses == again
    assert all(torch.equal(one, two) for one, two in zip(weights, weights_again, strict=True))
    assert losses != other
