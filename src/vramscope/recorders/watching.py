"""Watched models and optimizers: what they hold, looked at again whenever it may have changed; it keeps none alive."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from vramscope.recorders.labels import (
    Label,
    address_of,
    label_gradients,
    label_optimizer_state,
    label_tensor,
    labels_to_keep,
)
from vramscope.recorders.optimizer_names import OptimizerNames, Place, parameter_at
from vramscope.recording.recording import MarkKind

_PLAIN = (Tensor, nn.Parameter)
"""Types of tensors that hold their memory themselves, unless they are sparse."""
Places = dict[str, tuple[int, int]]
"""Of a module's own parameters and buffers, by name: the tensor's id, and where its memory is."""
Holder = tuple[ref[nn.Module], str]
"""A module and the key under which it has a parameter."""


class WatchedModels:
    """Parameters and buffers of the watched models, by name, each storage under the first path that holds it.

    What optimizers hold beside them are parameters too, by the optimizer's name until a watched model has them.

    Args:
        on_parameter: is told of every parameter that is new, or is named anew.
        optimizer_names: names the optimizers.
    """

    def __init__(self, on_parameter: Callable[[str, Tensor], None], optimizer_names: OptimizerNames) -> None:
        self._on_parameter = on_parameter
        self._optimizer_names = optimizer_names
        self._optimizers: WeakKeyDictionary[Optimizer, Places] = WeakKeyDictionary()
        self._known_whole: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        """Optimizers of which models hold all parameters, and how many: to look again at each step would take time."""
        self._states: WeakKeyDictionary[Optimizer, tuple[int, ...]] = WeakKeyDictionary()
        """The state of each optimizer that was looked at, and that of its parameters, by their ids."""
        self._beside: dict[int, tuple[str, ref[Optimizer], Place]] = {}  # by id as well: those of optimizers
        self.renamed: dict[str, str] = {}
        """Names by an optimizer, and those that models have given to the same parameters since."""
        self._modules: list[tuple[ref[nn.Module], str, Places]] = []
        # by id, since torch refuses to swap a tensor that somebody has a weak reference to: name, and what holds it
        self._parameters: dict[int, tuple[str, list[Holder]]] = {}
        self.module_types: list[list[str]] = []
        """[path, class name] of every module that was ever watched, in the order of the model."""

    def watch(self, model: nn.Module, root: str) -> None:
        """Look at a model's modules, with paths below ``root``, from now on."""
        for path, module in model.named_modules(prefix=root):
            self._modules.append((ref(module), path, {}))
            self.module_types.append([path, type(module).__name__])

    def forget(self, model: nn.Module, names: Mapping[str, str]) -> None:
        """Look at a model no longer, which another one holds that is watched next, and gives these new ``names``."""
        modules = {id(module) for module in model.modules()}
        self._modules = [row for row in self._modules if (module := row[0]()) is not None and id(module) not in modules]
        for parameter in model.parameters():
            self._parameters.pop(id(parameter), None)
        self.renamed = {earlier: names.get(name, name) for earlier, name in self.renamed.items()}

    def watch_optimizer(self, optimizer: Optimizer) -> Iterator[Label]:
        """Look from now on at what an optimizer holds beside the watched models; labels for it, as `fresh_labels`."""
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        if self._known_whole.get(optimizer) == count:
            return
        if optimizer not in self._optimizers:
            if not any(self._optimizer_names.others(optimizer, self.name_of)):
                self._known_whole[optimizer] = count
                return
            self._optimizers[optimizer] = {}
        yield from self._fresh_labels_beside(optimizer, self._optimizers[optimizer])

    def _fresh_labels_beside(self, optimizer: Optimizer, places: Places) -> Iterator[Label]:
        for name, place, parameter in self._optimizer_names.others(optimizer, self._is_of_model):
            is_own = self.name_of(parameter) in ("", name)  # else another optimizer's, as long as that lives
            if is_own and _moved(places, name, parameter):
                self._beside[id(parameter)] = (name, ref(optimizer), place)
                self._on_parameter(name, parameter)
                yield from label_tensor(MarkKind.PARAMETER, name, parameter)
                yield from label_gradients([(name, parameter)])

    def state_labels(self, optimizer: Optimizer) -> Iterator[Label]:
        """Labels for the state that an optimizer is first met with, or that it has been given since, as by loading."""
        held = id(optimizer.state), *map(id, optimizer.state.values())
        if self._states.get(optimizer) != held:
            self._states[optimizer] = held
            yield from label_optimizer_state(optimizer, self.name_of)

    def _is_of_model(self, parameter: Tensor) -> bool:
        return self._of_model(id(parameter))[1] is parameter

    def fresh_labels(self) -> Iterator[Label]:
        """Labels for the parameters and buffers that were not there, or were elsewhere, when this was last asked."""
        for weak, path, places in self._modules:
            module = weak()
            if module is None:
                continue
            for name, parameter in module._parameters.items():
                if parameter is not None and _moved(places, name, parameter) and not is_lazy(parameter):
                    yield from self._label_parameter((weak, name), path, parameter)
            for name, buffer in module._buffers.items():
                if buffer is not None and _moved(places, name, buffer):
                    yield from label_tensor(MarkKind.BUFFER, _join(path, name), buffer)
        for optimizer, own in list(self._optimizers.items()):
            yield from self._fresh_labels_beside(optimizer, own)

    def gradient_labels(self, parameters: Iterable[Tensor] | None = None) -> Iterator[Label]:
        """Labels for the gradients that parameters hold now: all that are watched, or those of them that are given."""
        named = self.named_parameters() if parameters is None else ((self.name_of(p), p) for p in parameters)
        for name, parameter in named:
            if not name:  # nobody's that is watched
                continue
            if (gradient := parameter.grad) is not None:
                yield from labels_to_keep(MarkKind.GRADIENT, name, gradient, name)

    def name_of(self, parameter: Tensor) -> str:
        """The name of a parameter that a watched model or optimizer holds, empty for any other tensor."""
        return self._known(id(parameter))[0]

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters that watched models and optimizers hold, each once."""
        for number in [*self._parameters, *(other for other in list(self._beside) if other not in self._parameters)]:
            name, held = self._known(number)
            if held is not None:
                yield name, held

    def _known(self, number: int) -> tuple[str, Tensor | None]:
        """The parameter with an id that a module or an optimizer still holds, and its name."""
        found = self._of_model(number)
        return self._of_optimizer(number) if found[1] is None and number in self._beside else found

    def _of_optimizer(self, number: int) -> tuple[str, Tensor | None]:
        name, weak, place = self._beside[number]
        optimizer = weak()
        held = None if optimizer is None else parameter_at(optimizer, place)
        return (name, held) if id(held) == number else ("", None)

    def _of_model(self, number: int) -> tuple[str, Tensor | None]:
        name, holders = self._parameters.get(number, ("", []))
        for weak, key in holders:
            module = weak()
            held = None if module is None else _own_parameter(module, key)
            if id(held) == number:
                return name, held
        return "", None

    def _label_parameter(self, holder: Holder, path: str, parameter: nn.Parameter) -> Iterator[Label]:
        """Label a parameter that is new here, or elsewhere than it was; it may have the id of one that is gone."""
        name, held = self._of_model(id(parameter))
        if held is None:
            name = _join(path, holder[1])
            if earlier := self.name_of(parameter):
                self.renamed[earlier] = name
            self._parameters[id(parameter)] = (name, [])
        holders = self._parameters[id(parameter)][1]
        if holder not in holders:
            holders.append(holder)
        self._on_parameter(name, parameter)
        yield from label_tensor(MarkKind.PARAMETER, name, parameter)


def _own_parameter(module: nn.Module, key: str) -> nn.Parameter | None:
    parameters = module._parameters
    return parameters[key] if key in parameters else None  # noqa: SIM401 - TorchScript's are no dict, and have no get


def _moved(places: Places, name: str, tensor: Tensor) -> bool:
    """Whether a parameter or buffer is another one, or elsewhere, than it was when this was last asked."""
    place = (id(tensor), _address(tensor))
    if places.get(name) == place:
        return False
    places[name] = place
    return True


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _address(tensor: Tensor) -> int:
    """Where a tensor's memory is; 0 for tensors that have no single address (sparse, wrapped, not built yet)."""
    try:
        return tensor.data_ptr() if type(tensor) in _PLAIN else address_of(tensor.untyped_storage())
    except (RuntimeError, NotImplementedError, ValueError):
        return 0
