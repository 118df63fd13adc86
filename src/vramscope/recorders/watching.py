"""Watched models: what their modules hold, looked at again whenever it may have changed, and kept alive by nobody."""

from collections.abc import Callable, Iterable, Iterator
from weakref import ref

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vramscope.recorders.labels import Label, address_of, label_tensor, labels_of_gradient
from vramscope.recording.recording import MarkKind

_PLAIN = (Tensor, nn.Parameter)
"""Types of tensors that hold their memory themselves, unless they are sparse."""
Places = dict[str, tuple[int, int]]
"""Of a module's own parameters and buffers, by name: the tensor's id, and where its memory is."""


class WatchedModels:
    """Parameters and buffers of the watched models, by name, each storage under the first path that holds it."""

    def __init__(self, on_parameter: Callable[[str, Tensor], None]) -> None:
        self._on_parameter = on_parameter
        self._modules: list[tuple[ref[nn.Module], str, Places]] = []
        self._parameters: dict[int, tuple[ref[Tensor], str]] = {}
        self.module_types: list[list[str]] = []
        """[path, class name] of every module that was ever watched, in the order of the model."""

    def watch(self, model: nn.Module, root: str) -> None:
        """Look at a model's modules, with paths below ``root``, from now on."""
        for path, module in model.named_modules(prefix=root):
            self._modules.append((ref(module), path, {}))
            self.module_types.append([path, type(module).__name__])

    def fresh_labels(self) -> Iterator[Label]:
        """Labels for the parameters and buffers that were not there, or were elsewhere, when this was last asked."""
        for weak, path, places in self._modules:
            module = weak()
            if module is None:
                continue
            for name, parameter in module._parameters.items():
                if parameter is not None and _moved(places, name, parameter) and not is_lazy(parameter):
                    yield from self._label_parameter(_join(path, name), parameter)
            for name, buffer in module._buffers.items():
                if buffer is not None and _moved(places, name, buffer):
                    yield from label_tensor(MarkKind.BUFFER, _join(path, name), buffer)

    def gradient_labels(self) -> Iterator[Label]:
        """Labels for the gradients that parameters hold now."""
        for name, parameter in self._named_parameters():
            if parameter.grad is not None:
                yield from labels_of_gradient(name, parameter.grad)

    def parameters(self) -> Iterator[Tensor]:
        """The parameters that are watched and still there."""
        return (parameter for _, parameter in self._named_parameters())

    def name_of(self, parameter: Tensor) -> str:
        """The name of a watched parameter, empty for any other tensor."""
        known, name = self._parameters.get(id(parameter), (None, ""))
        return name if known is not None and known() is parameter else ""

    def _label_parameter(self, name: str, parameter: nn.Parameter) -> Iterator[Label]:
        if not self.name_of(parameter):
            self._parameters[id(parameter)] = (ref(parameter), name)
            self._on_parameter(name, parameter)
        yield from label_tensor(MarkKind.PARAMETER, self.name_of(parameter), parameter)

    def _named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        for weak, name in list(self._parameters.values()):
            parameter = weak()
            if parameter is not None:
                yield name, parameter


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
