"""The user's own factories as a source of targets: ``package.module:factory`` and ``path/to/file.py:factory``."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from vramscope.errors import TargetError, UsageError, VramscopeError
from vramscope.workloads.draft import Draft, draw_for
from vramscope.workloads.forks import forks_ended
from vramscope.workloads.inputs import check_names
from vramscope.workloads.losses import SURROGATE_NOTE, default_loss
from vramscope.workloads.messages import describe_error, raised_at, suggestion
from vramscope.workloads.workload import DTYPES, Workload, WorkloadOptions

_DEFAULT_BATCH, _DEFAULT_SEQ = 8, 128
_REGISTERED = ("used to register the namespace", "overload name multiple times")
"""What torch says where a library or an operator is registered a second time (ATen/core/dispatch/Dispatcher.cpp)."""
_OFFERED = ("batch", "seq", "dtype", "device", "checkpoint")


@dataclass(frozen=True)
class FactorySource:
    """A callable in the user's code that returns an ``nn.Module`` or a ``Workload``.

    Attributes:
        module: a dotted module name, or the path of a Python file.
        factory: its name in there, dotted where it is nested.
    """

    module: str
    factory: str

    @property
    def is_file(self) -> bool:
        """Whether ``module`` is a path."""
        return _is_path(self.module)

    @property
    def target(self) -> str:
        """As the user wrote it."""
        return f"{self.module}:{self.factory}"

    @property
    def name(self) -> str:
        """The target without folders."""
        return f"{Path(self.module).name}:{self.factory}"

    def draft(self, options: WorkloadOptions) -> Draft:
        """Import the user's code, call the factory with what it accepts, and take what it returns.

        Raises:
            TargetError: the code cannot be imported or has no such factory, or the factory fails or returns
                something else.
            UsageError: an option the factory does not accept, or inputs that ``forward`` does not take.
        """
        factory = _find_factory(self, _import_user_module(self))
        arguments = _choose_arguments(self, factory, options)
        made = _call_factory(self, factory, arguments)
        batch = arguments.get("batch") or _default_of(factory, "batch")
        seq = arguments.get("seq") or _default_of(factory, "seq")
        if isinstance(made, Workload):
            return _draft_workload(made, options, batch, seq)
        return _draft_module(self, made, options, batch, seq)


def find_factory(target: str) -> FactorySource:
    """The source that ``MODULE:FACTORY`` names, when its file or top package can be found.

    Raises:
        TargetError: no such file or package, or the factory's name is missing.
    """
    module, _, factory = target.rpartition(":")
    if not module or not factory:
        module = target.strip(":")
        raise TargetError(
            f"target {target!r} names no factory: write {module}:FACTORY, a function that returns the model"
        )
    source = FactorySource(module, factory)
    if source.is_file:
        _check_file(target, Path(module))
    else:
        _check_package(target, module.partition(".")[0])
    return source


def _is_path(module: str) -> bool:
    return module.endswith(".py") or "/" in module


def _check_file(target: str, path: Path) -> None:
    if not path.is_file():
        beside = [item.name for item in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise TargetError(f"target {target!r}: there is no file {str(path)!r}{suggestion(path.name, beside)}")
    if path.suffix != ".py":
        raise TargetError(f"target {target!r}: {str(path)!r} is no Python file: give one that ends in .py")


def _check_package(target: str, package: str) -> None:
    """Only the top package, since finding what lies below would run its code."""
    folders = [str(Path.cwd()), *sys.path]
    if package in sys.modules or PathFinder.find_spec(package, folders) is not None:
        return
    here = [item.name for item in pkgutil.iter_modules([str(Path.cwd())])]
    hint = suggestion(package, [*here, "hf", "timm", "torchvision"])
    raise TargetError(
        f"target {target!r}: there is no module {package!r} here or installed{hint}; "
        "a file is written path/to/file.py:factory"
    )


def _import_user_module(source: FactorySource) -> ModuleType:
    try:
        with forks_ended():
            if source.is_file:
                return _import_file(Path(source.module).resolve())
            _make_importable(Path.cwd())
            return importlib.import_module(source.module)
    except (Exception, SystemExit) as error:  # a script without a main guard may call sys.exit
        raise TargetError(f"{source.target}: importing {source.module} failed: {describe_error(error)}") from error


def _import_file(path: Path) -> ModuleType:
    """The file as a module; as with ``python FILE``, its folder is importable, and stays so for late imports.

    It runs anew every time, so that each prediction makes what the file makes. A file that torch lets run only once in
    a process, since it registers operators, gives the module of its first run.
    """
    _make_importable(path.parent)
    spec = importlib.util.spec_from_file_location(f"_vramscope_target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[spec.name]
        if before is None:
            raise
        sys.modules[spec.name] = before  # which ran to its end, or it would not be there
        if before.__file__ != module.__file__ or not _is_registered_already(error):
            raise
        return before
    return module


def _is_registered_already(error: BaseException) -> bool:
    """Whether torch refuses a library or an operator that is there."""
    return type(error) is RuntimeError and any(words in str(error) for words in _REGISTERED)


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _find_factory(source: FactorySource, module: ModuleType) -> Callable[..., Any]:
    found: Any = module
    for part in source.factory.split("."):
        if not hasattr(found, part):
            raise TargetError(f"{source.target}: {source.module} has no {source.factory!r}{_hint(source, module)}")
        found = getattr(found, part)
    if isinstance(found, nn.Module | Workload) or not callable(found):
        raise TargetError(
            f"{source.target} is a {type(found).__name__}, not a factory: name a function without required arguments "
            "that returns an nn.Module or a Workload"
        )
    factory: Callable[..., Any] = found
    return factory


def _hint(source: FactorySource, module: ModuleType) -> str:
    own = [name for name, item in vars(module).items() if callable(item) and not name.startswith("_")]
    return suggestion(source.factory, own)


def _choose_arguments(source: FactorySource, factory: Callable[..., Any], options: WorkloadOptions) -> dict[str, Any]:
    """Of what a factory may take, the arguments its signature accepts."""
    parameters = _parameters(factory)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    accepted = [name for name in _OFFERED if takes_any or _is_keyword(parameters.get(name))]
    for option in ("batch", "seq", "checkpoint"):
        if getattr(options, option) and option not in accepted:
            raise UsageError(f"--{option} does nothing: {source.target} takes no argument named {option!r}")
    _check_required(source, parameters)
    required = {name for name in accepted if name in parameters and _is_required(parameters[name])}
    return {name: value for name in accepted if (value := _value(name, options, name in required)) is not None}


def _value(name: str, options: WorkloadOptions, required: bool) -> Any:
    """The option's value; None where it was not given and the factory has a default of its own."""
    if name == "device":
        return options.torch_device
    if name == "dtype":
        return DTYPES[options.dtype] if required or options.floating_dtype is not None else None
    if name == "checkpoint":
        return options.checkpoint if required or options.checkpoint else None
    fallback = {"batch": _DEFAULT_BATCH, "seq": _DEFAULT_SEQ}[name] if required else None
    return getattr(options, name) or fallback


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(factory).parameters)
    except ValueError:  # some callables written in C have no signature
        return {}


def _is_keyword(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic


def _check_required(source: FactorySource, parameters: dict[str, inspect.Parameter]) -> None:
    for name, parameter in parameters.items():
        if _is_required(parameter) and not (name in _OFFERED and _is_keyword(parameter)):
            raise TargetError(
                f"{source.target} requires the argument {name!r}: a factory is called with {', '.join(_OFFERED)} "
                "at most, give the others a default"
            )


def _default_of(factory: Callable[..., Any], name: str) -> int | None:
    parameter = _parameters(factory).get(name)
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else None


def _call_factory(
    source: FactorySource, factory: Callable[..., Any], arguments: dict[str, Any]
) -> nn.Module | Workload:
    try:
        with forks_ended():
            made = factory(**arguments)
    except VramscopeError as error:  # a Workload that refuses its fields
        place = raised_at(error)
        raise TargetError(f"{source.target}: {error}" + (f" ({place})" if place else "")) from error
    except (Exception, SystemExit) as error:
        raise TargetError(f"{source.target} raised {describe_error(error)}") from error
    if not isinstance(made, nn.Module | Workload):
        raise TargetError(
            f"{source.target} returned {type(made).__name__}: a factory must return an nn.Module or a Workload"
        )
    return made


def _draft_workload(made: Workload, options: WorkloadOptions, batch: int | None, seq: int | None) -> Draft:
    inputs = made.call_arguments()
    if options.inputs:
        check_names(made.model, options.inputs)
        inputs = ((), draw_for(options, *options.inputs))
    return Draft(
        made.model,
        inputs=inputs,
        loss=made.loss or default_loss,
        targets=made.targets,
        optimizer=made.optimizer,
        batch=batch,
        seq=seq,
        notes=("--input replaces the Workload's own inputs",) if options.inputs else (),
        training_notes=() if made.loss else (SURROGATE_NOTE,),
    )


def _draft_module(
    source: FactorySource, model: nn.Module, options: WorkloadOptions, batch: int | None, seq: int | None
) -> Draft:
    """A bare module is fed from ``--input`` alone."""
    if not options.inputs and _required_inputs(model):
        raise UsageError(
            f"{source.target} returned a bare {type(model).__name__}: give its inputs ({_required_inputs(model)}) as "
            "--input NAME=DTYPE[SHAPE], or return a Workload"
        )
    check_names(model, options.inputs)
    inputs = draw_for(options, *options.inputs)
    return Draft(model, ((), inputs), default_loss, batch=batch, seq=seq, training_notes=(SURROGATE_NOTE,))


def _required_inputs(model: nn.Module) -> str:
    parameters = inspect.signature(model.forward).parameters
    return ", ".join(name for name, parameter in parameters.items() if _is_required(parameter))
