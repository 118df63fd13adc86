"""The child that runs a script as Python would: ``python -m vramscope.workloads.script_child REQUEST``.

The script finds the ``sys.argv``, ``sys.path[0]``, ``__main__`` and working directory that it would have without us;
torch is loaded when the script loads it, not before: what it sets up first, such as thread counts, still counts.
"""

import builtins
import importlib.util
import io
import os
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from vramscope.workloads.scripts import NOT_STARTED, ScriptRequest, write_status

if TYPE_CHECKING:
    from vramscope.recorders.session import ScriptSession

_TORCH = "torch"
Action = Callable[[], None]


class _TorchLoader(Loader):
    """Loads torch as its own loader does, and then tells."""

    def __init__(self, inner: Any, then: Action) -> None:
        self._inner = inner
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As torch's own loader."""
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As torch's own loader, and a word when it is done."""
        module.__spec__.loader = module.__loader__ = self._inner  # type: ignore[union-attr]  # what torch would have
        self._inner.exec_module(module)
        self._then()


class _TorchFinder(MetaPathFinder):
    """Notices the import of torch, once."""

    def __init__(self, then: Action) -> None:
        self._then = then

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Torch's spec with a loader that tells; None for everything else."""
        if name != _TORCH:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _TorchLoader(spec.loader, self._then)
        return spec


class Child:
    """Runs one request and keeps the session that records it."""

    def __init__(self, request: ScriptRequest) -> None:
        self._request = request
        self._session: ScriptSession | None = None
        self._message = ""

    def run(self) -> int:
        """Run the script to its end and the recording to its seal; the script's exceptions are printed as ever."""
        program = self._prepare()
        if program is None:
            return NOT_STARTED
        sys.meta_path.insert(0, _TorchFinder(self._begin))
        try:
            program()
        except SystemExit:
            self._end("")
            raise
        except BaseException as error:  # noqa: BLE001 - whatever ends the script is printed, and decides the exit code
            self._end(f"the script ended with {type(error).__name__}")
            error.__traceback__ = _without_us(error.__traceback__)
            sys.excepthook(type(error), error, error.__traceback__)
            if isinstance(error, KeyboardInterrupt):
                _die_of(signal.SIGINT)
            return 1
        self._end("")
        return 0

    def _prepare(self) -> Action | None:
        """Everything up to the script's first line; None, and a word to the parent, where that fails."""
        try:
            return _module_program(self._request) if self._request.is_module else _file_program(self._request)
        except (OSError, ImportError, ValueError) as error:
            write_status(self._request.status, {"not_started": f"{error}"})
            return None

    def _begin(self) -> None:
        """Torch is there: watch it. Nothing that goes wrong here is the script's business."""
        try:
            from vramscope.recorders.session import ScriptSession
            from vramscope.recorders.windows import WindowPlan

            plan = WindowPlan(self._request.first, self._request.last, self._request.rearm)
            self._session = ScriptSession(Path(self._request.output), plan)
        except Exception as error:  # noqa: BLE001 - the script goes on unrecorded, and the parent says why
            self._message = f"{type(error).__name__}: {error}"

    def _end(self, remark: str) -> None:
        status: dict[str, Any] = {"torch": _TORCH in sys.modules, "error": self._message}
        if self._session is not None:
            status |= self._session.close(remark)
        write_status(self._request.status, status)


def _file_program(request: ScriptRequest) -> Action:
    """A program in a file; a folder or a zip is run by its ``__main__``, as Python does."""
    path = str(Path(request.program).absolute())
    sys.argv = [request.program, *request.arguments]
    if not _is_source(path):
        _set_first_path(path)
        return lambda: runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # as Python
    with io.open_code(path) as file:
        source = file.read()
    _set_first_path(str(Path(path).resolve().parent))
    main = _fresh_main()
    main.__dict__.update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    return lambda: exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def _module_program(request: ScriptRequest) -> Action:
    """A module, as ``python -m`` runs it."""
    sys.argv = ["-m", *request.arguments]
    _set_first_path(str(Path.cwd()))
    if importlib.util.find_spec(request.program) is None:
        raise ImportError(f"no module named {request.program}")
    _fresh_main()
    return lambda: runpy._run_module_as_main(request.program)  # type: ignore[attr-defined]  # what ``python -m`` calls


def _is_source(path: str) -> bool:
    return Path(path).is_file() and not path.endswith((".zip", ".pyz"))


def _fresh_main() -> ModuleType:
    """An empty ``__main__`` in the place of ours; it stays alive as long as the interpreter."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main


def _set_first_path(path: str) -> None:
    """Python puts this folder first itself, unless it was told not to trust it."""
    if not sys.flags.safe_path:
        sys.path[0] = path


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the script's first frame on."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _die_of(number: signal.Signals) -> None:
    """End as Python ends after Ctrl-C: by the signal itself, so that whoever waits knows."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(Child(ScriptRequest.from_json(sys.argv[1])).run())
