"""Optimizers by name: every one torch has, with its options, or a reason why not."""

import ast
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from vramscope.errors import NothingToTrainError, UsageError
from vramscope.workloads.libraries import import_library, require_library
from vramscope.workloads.messages import suggestion, summarize_error

BITSANDBYTES = "bitsandbytes"
_EIGHT_BIT = "8bit"
_HOW = "write NAME or NAME:key=value,key=value, such as sgd:momentum=0.9"
_WORDS = {"true": True, "false": False, "none": None}


def available() -> dict[str, type[Optimizer]]:
    """Every optimizer in ``torch.optim`` by its lower-case name."""
    return _optimizers_of(torch.optim)


def _optimizers_of(module: ModuleType) -> dict[str, type[Optimizer]]:
    classes = (item for item in vars(module).values() if inspect.isclass(item))
    return {item.__name__.lower(): item for item in classes if issubclass(item, Optimizer) and item is not Optimizer}


def _eight_bit(spec: str) -> dict[str, type[Optimizer]]:
    """Optimizers of the bitsandbytes library that keep their state in eight bits, by lower-case name.

    Raises:
        TargetError: the library is not installed, or its import fails.
    """
    require_library(f"optimizer {spec!r}", BITSANDBYTES, f"pip install {BITSANDBYTES}")
    found = _optimizers_of(import_library(f"optimizer {spec!r}", BITSANDBYTES).optim)
    return {name: kind for name, kind in found.items() if name.endswith(_EIGHT_BIT)}


@dataclass(frozen=True)
class OptimizerPlan:
    """An optimizer chosen but not built: building may allocate (Adagrad does), and inference needs none."""

    spec: str
    kind: type[Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class's own name, such as ``AdamW``."""
        return self.kind.__name__

    def notes(self, model: nn.Module) -> tuple[str, ...]:
        """What the user should know about how the parameters were divided; empty when they were not."""
        return self._split(model).notes(self.name)

    def build(self, model: nn.Module) -> tuple[Optimizer, ...]:
        """The optimizer over the model's trainable parameters, and AdamW over those it is not made for.

        Raises:
            NothingToTrainError: the model has no parameters, or all are frozen.
            UsageError: torch or this optimizer refuses the settings or the parameters; the reason is in the message.
        """
        split = self._split(model)
        optimizers = [_construct(self.kind, self.spec, split.own, self.settings)]
        if split.others:
            optimizers.append(_construct(torch.optim.AdamW, "adamw", split.others, {}))
        return tuple(optimizers)

    def _split(self, model: nn.Module) -> "_Split":
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise NothingToTrainError(_why_nothing(model))
        if self.kind is torch.optim.SparseAdam:
            return _split_sparse(model, trainable)
        if self.kind is torch.optim.Muon:
            return _split_hidden_matrices(model, trainable)
        return _Split(trainable)


@dataclass(frozen=True, eq=False)
class _Split:
    """Parameters an optimizer takes itself, and those left to AdamW."""

    own: list[nn.Parameter]
    others: list[nn.Parameter] = field(default_factory=list)
    what: str = ""

    def notes(self, name: str) -> tuple[str, ...]:
        if not self.what:
            return ()
        return (
            f"{name} trains {len(self.own)} {self.what} ({_count(self.own):,} parameters), "
            f"AdamW the other {len(self.others)} tensors ({_count(self.others):,})",
        )


def _why_nothing(model: nn.Module) -> str:
    frozen = _count(model.parameters())
    if not frozen:
        return "there is no training pass: the model has no parameters"
    return (
        f"there is no training pass: all {frozen:,} parameters of the model are frozen; call requires_grad_(True) on "
        "what is to be trained"
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _divide(trainable: list[nn.Parameter], own: set[int], what: str) -> _Split:
    return _Split([p for p in trainable if id(p) in own], [p for p in trainable if id(p) not in own], what)


def _split_sparse(model: nn.Module, trainable: list[nn.Parameter]) -> _Split:
    """SparseAdam takes sparse gradients only, and only embeddings made with ``sparse=True`` have them."""
    sparse = {id(module.weight) for module in _embeddings(model) if module.sparse}
    split = _divide(trainable, sparse, "sparse embeddings")
    if not split.own:
        raise UsageError(
            "SparseAdam accepts only sparse gradients, and this model has no trainable embedding made with "
            "sparse=True: make one so, or choose another optimizer such as adam"
        )
    return split


def _split_hidden_matrices(model: nn.Module, trainable: list[nn.Parameter]) -> _Split:
    """Muon is for the matrices of hidden layers; embeddings, the output layer, biases and gains go to AdamW.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, and the documentation of
    ``torch.optim.Muon``. The output layer is the last ``nn.Linear`` registered in the model.
    """
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    outer = {id(module.weight) for module in (*_embeddings(model), *linears[-1:])}
    hidden = {id(parameter) for parameter in trainable if parameter.ndim == 2} - outer
    split = _divide(trainable, hidden, "hidden matrices")
    if not split.own:
        raise UsageError(
            "Muon trains the 2-D matrices of hidden layers, and this model has none besides embeddings and output "
            "layer: choose another optimizer such as adamw"
        )
    return split


def _embeddings(model: nn.Module) -> list[nn.Embedding | nn.EmbeddingBag]:
    return [module for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]


def _construct(
    kind: type[Optimizer], spec: str, parameters: list[nn.Parameter], settings: Mapping[str, Any]
) -> Optimizer:
    try:
        return kind(parameters, **settings)
    except Exception as error:
        raise UsageError(f"optimizer {spec!r}: torch refuses it: {summarize_error(error)}") from error


def plan(spec: str, foreach: bool | None = None, fused: bool | None = None) -> OptimizerPlan:
    """The optimizer that ``spec`` names, checked against its signature.

    Args:
        spec: ``NAME`` or ``NAME:key=value,key=value``; the name's case does not matter, values are Python literals.
        foreach: passed on where the optimizer has such an option; None leaves torch's default.
        fused: likewise.

    Raises:
        TargetError: an optimizer of bitsandbytes, which is not installed or cannot be imported.
        UsageError: an unknown name or option, or an option this optimizer does not have.
    """
    name, _, text = spec.partition(":")
    key = name.strip().lower()
    library, kinds = (BITSANDBYTES, _eight_bit(spec)) if key.endswith(_EIGHT_BIT) else ("torch.optim", available())
    kind = kinds.get(key)
    if kind is None:
        hint = suggestion(key, kinds) or f"; known are {', '.join(sorted(kinds))}"
        raise UsageError(f"{library} has no optimizer {name!r}{hint}")
    settings = _parse_settings(spec, text)
    for flag, value in (("foreach", foreach), ("fused", fused)):
        if value is not None:
            _add_flag(kind, settings, flag, value)
    _check_settings(kind, spec, settings)
    return OptimizerPlan(spec, kind, settings)


def build(
    spec: str, model: nn.Module, foreach: bool | None = None, fused: bool | None = None
) -> tuple[tuple[Optimizer, ...], tuple[str, ...]]:
    """The optimizers for ``model`` and the notes about them; see ``plan`` and ``OptimizerPlan.build``.

    Raises:
        UsageError: the spec makes no sense, or torch refuses it for these parameters.
    """
    chosen = plan(spec, foreach, fused)
    return chosen.build(model), chosen.notes(model)


def _parse_settings(spec: str, text: str) -> dict[str, Any]:
    """Python's own parser reads the options, so that ``betas=(0.9,0.95)`` keeps its comma."""
    keywords = _parse_keywords(text)
    names = [keyword.arg for keyword in keywords or ()]
    if keywords is None or None in names or len(set(names)) < len(names):
        raise UsageError(f"optimizer {spec!r}: the options are not understood: {_HOW}")
    return {str(keyword.arg): _parse_value(spec, str(keyword.arg), keyword.value) for keyword in keywords}


def _parse_keywords(text: str) -> list[ast.keyword] | None:
    """The arguments of a call with nothing but keyword arguments; None where ``text`` is not that."""
    try:
        call = ast.parse(f"settings({text})", mode="eval").body
    except SyntaxError:
        return None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
        return call.keywords
    return None


def _parse_value(spec: str, key: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        if node.id.lower() in _WORDS:
            return _WORDS[node.id.lower()]
        return node.id  # a bare word is a string, as in line_search_fn=strong_wolfe
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UsageError(f"optimizer {spec!r}: the value of {key} is no number, word or tuple") from error


def _add_flag(kind: type[Optimizer], settings: dict[str, Any], flag: str, value: bool) -> None:
    if flag not in _options(kind):
        raise UsageError(f"{kind.__name__} has no {flag} implementation in torch: leave --{flag} out")
    if settings.get(flag, value) != value:
        raise UsageError(f"{kind.__name__}: {flag} is given twice, as {settings[flag]} and {value}")
    settings[flag] = value


def _check_settings(kind: type[Optimizer], spec: str, settings: Mapping[str, Any]) -> None:
    known = _options(kind)
    for key in settings:
        if key not in known:
            hint = suggestion(key, known) or f"; it has {', '.join(known)}"
            raise UsageError(f"optimizer {spec!r}: {kind.__name__} has no option {key!r}{hint}")


def _options(kind: type[Optimizer]) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "params"]
