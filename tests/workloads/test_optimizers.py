import importlib.util
import inspect

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from vramscope.errors import NothingToTrainError, TargetError, UsageError
from vramscope.workloads.models.gpt2 import Gpt2, Gpt2Sizes
from vramscope.workloads.optimizers import available, build, plan

SPARSE_ONLY = "sparseadam"
DENSE = sorted(set(available()) - {SPARSE_ONLY})


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def sparse_model(sparse: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Embedding(10, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 3))


def held(optimizer: Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def step(model: nn.Module, inputs: torch.Tensor, optimizers: tuple[Optimizer, ...]) -> None:
    def closure() -> torch.Tensor:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    closure()
    for optimizer in optimizers:
        optimizer.step(closure if isinstance(optimizer, torch.optim.LBFGS) else None)


def test_every_optimizer_of_torch_is_there() -> None:
    classes = {item for item in vars(torch.optim).values() if inspect.isclass(item) and issubclass(item, Optimizer)}
    assert set(available().values()) == classes - {Optimizer}
    assert {"adamw", "sgd", "muon", "lbfgs", "sparseadam", "adafactor"} <= set(available())


@pytest.mark.parametrize("name", DENSE)
def test_every_dense_optimizer_trains_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = mlp()
    before = [parameter.clone() for parameter in model.parameters()]
    optimizers, _ = build(name, model)
    step(model, torch.randn(8, 4), optimizers)
    assert set().union(*map(held, optimizers)) == {id(parameter) for parameter in model.parameters()}
    assert all(not torch.equal(was, now) for was, now in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("flag", ["foreach", "fused"])
def test_foreach_and_fused_reach_those_that_have_them(name: str, flag: str) -> None:
    if flag in inspect.signature(available()[name]).parameters:
        optimizers, _ = build(name, mlp(), **{flag: True})
        assert optimizers[0].defaults[flag] is True
    else:
        with pytest.raises(UsageError, match=f"has no {flag} implementation in torch: leave --{flag} out"):
            build(name, mlp(), **{flag: True})


def test_options_are_read_as_python_reads_them() -> None:
    (optimizer,), notes = build("AdamW:lr=1e-2,betas=(0.8,0.9),amsgrad=true,foreach=None", mlp())
    assert isinstance(optimizer, torch.optim.AdamW)
    wanted = {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True, "foreach": None}
    assert {key: optimizer.defaults[key] for key in wanted} == wanted
    assert notes == ()


def test_a_bare_word_is_a_string() -> None:
    (optimizer,), _ = build("lbfgs:line_search_fn=strong_wolfe", mlp())
    assert optimizer.defaults["line_search_fn"] == "strong_wolfe"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("adamm", "torch.optim has no optimizer 'adamm'; did you mean 'adam'?"),
        ("zzz", "known are adadelta"),
        ("optimizer", "torch.optim has no optimizer 'optimizer'"),
        ("", "torch.optim has no optimizer ''"),
        ("sgd:momentun=0.9", "SGD has no option 'momentun'; did you mean 'momentum'?"),
        ("sgd:zzz=0.9", "it has lr, momentum"),
        ("sgd:params=3", "SGD has no option 'params'"),
        ("sgd:0.9", "the options are not understood: write NAME or NAME:key=value"),
        ("sgd:lr=", "the options are not understood"),
        ("sgd:lr=1)(", "the options are not understood"),
        ("sgd:**x", "the options are not understood"),
        ("sgd:lr=1,lr=2", "the options are not understood"),
        ("sgd:lr=open('x')", "the value of lr is no number, word or tuple"),
        ("sgd:lr=-1", "torch refuses it: ValueError: Invalid learning rate: -1"),
        ("adam:betas=3", "torch refuses it: TypeError"),
        ("sgd:nesterov=true", "torch refuses it: ValueError: Nesterov momentum requires a momentum"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(spec: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(spec, mlp())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreach_and_fused_exclude_each_other_in_torch_s_words() -> None:
    with pytest.raises(UsageError, match="torch refuses it: RuntimeError: `fused` and `foreach` cannot be `True`"):
        build("adam", mlp(), foreach=True, fused=True)


def test_a_flag_may_not_contradict_the_spec() -> None:
    with pytest.raises(UsageError, match="Adam: foreach is given twice, as True and False"):
        build("adam:foreach=True", mlp(), foreach=False)


def test_frozen_parameters_are_left_out() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    (optimizer,), _ = build("adagrad", model)
    assert held(optimizer) == {id(parameter) for layer in (model[2], model[4]) for parameter in layer.parameters()}


@pytest.mark.parametrize("model", [mlp().requires_grad_(False), nn.ReLU()])
def test_a_model_without_trainable_parameters_is_refused(model: nn.Module) -> None:
    with pytest.raises(NothingToTrainError, match="there is no training pass"):
        build("adamw", model)


def test_planning_builds_nothing() -> None:
    assert plan("adagrad:lr=0.1").settings == {"lr": 0.1}
    with pytest.raises(UsageError, match="no optimizer"):
        plan("nothing")


def test_muon_takes_hidden_matrices_and_leaves_the_rest_to_adamw() -> None:
    model = mlp()
    (muon, adamw), notes = build("muon", model)
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    # the last linear layer is the output
    assert held(muon) == {id(model[0].weight), id(model[2].weight)}
    # matrices: 4 * 6 + 6 * 5; the rest: biases 6 + 5 + 3 and the output's 5 * 3
    assert notes == ("Muon trains 2 hidden matrices (54 parameters), AdamW the other 4 tensors (29)",)


def test_muon_leaves_embeddings_and_a_tied_output_to_adamw() -> None:
    model = Gpt2(Gpt2Sizes(vocabulary=50, context=16, width=8, layers=2, heads=2))
    (muon, _), _ = build("muon", model)
    hidden = {
        id(module.weight) for block in model.blocks for module in block.modules() if isinstance(module, nn.Linear)
    }
    assert held(muon) == hidden


def test_muon_without_hidden_matrices_is_refused() -> None:
    with pytest.raises(UsageError, match="Muon trains the 2-D matrices of hidden layers, and this model has none"):
        build("muon", nn.Linear(4, 3))


def test_sparse_adam_takes_sparse_embeddings_and_leaves_the_rest_to_adamw() -> None:
    model = sparse_model()
    (sparse, adamw), notes = build("SparseAdam", model)
    assert held(sparse) == {id(model[0].weight)}
    assert notes == ("SparseAdam trains 1 sparse embeddings (40 parameters), AdamW the other 2 tensors (27)",)
    step(model, torch.randint(10, (3, 2)), (sparse, adamw))


@pytest.mark.parametrize("model", [mlp(), sparse_model(sparse=False)])
def test_sparse_adam_without_sparse_embeddings_is_refused(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="SparseAdam accepts only sparse gradients, and this model has no trainable"):
        build("sparseadam", model)


def test_sparse_adam_alone_where_everything_is_sparse() -> None:
    optimizers, _ = build("sparseadam", nn.Embedding(10, 4, sparse=True))
    assert len(optimizers) == 1


def test_an_eight_bit_optimizer_by_name() -> None:
    pytest.importorskip("bitsandbytes", reason="pip install bitsandbytes")
    model = nn.Linear(128, 64)
    (optimizer,), _ = build("adamw8bit", model)
    assert type(optimizer).__name__ == "AdamW8bit"


def test_an_eight_bit_optimizer_without_its_library() -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(TargetError, match="pip install bitsandbytes"):
        plan("adamw8bit")
