"""The child that runs a script as Python would; `COMMAND` in ``scripts`` is how it is started.

The script finds the ``sys.argv``, ``sys.path[0]``, ``__main__`` and working directory that it would have without us;
torch is loaded when the script loads it, not before: what it sets up first, such as thread counts, still counts.
"""

import atexit
import builtins
import importlib.util
import io
import os
import pkgutil
import runpy
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from vramscope.collector import paused
from vramscope.errors import why_stopped
from vramscope.workloads.scripts import NOT_STARTED, ScriptRequest, write_status
from vramscope.workloads.uncaught import code_of, outcome, print_uncaught

if TYPE_CHECKING:
    from vramscope.recorders.scripts.session import ScriptSession

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
    """Notices the import of torch; a library may ask where torch is, long before that."""

    def __init__(self, then: Action) -> None:
        self._then = then
        self._asking: set[int] = set()
        """Threads that ask where torch is: finders of the script's may ask all others too."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Torch's spec with a loader that tells; None for everything else."""
        thread = threading.get_ident()
        if name != _TORCH or thread in self._asking:
            return None
        self._asking.add(thread)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking.discard(thread)
        if spec is not None and spec.loader is not None:
            spec.loader = _TorchLoader(spec.loader, self._loaded)
        return spec

    def _loaded(self) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        self._then()


class Child:
    """Runs one request and keeps the session that records it."""

    def __init__(self, request: ScriptRequest) -> None:
        self._request = request
        self._session: ScriptSession | None = None
        self._process = os.getpid()
        self._message = ""

    def run(self) -> int:
        """Run the script to its end and the recording to its seal; the script's exceptions are printed as ever.

        Returns:
            the exit code.

        Raises:
            SystemExit: the script asked for it, or its own ``sys.excepthook`` did.
            KeyboardInterrupt: after it was printed: Python then ends, as ever, by the signal itself.
        """
        program = self._prepare()
        if program is None:
            return NOT_STARTED
        sys.meta_path.insert(0, _TorchFinder(self._begin))
        error = outcome(program)
        if os.getpid() != self._process and self._session is not None:
            return _leave(error)
        if isinstance(error, SystemExit):
            self._end("")
            raise error
        self._end("" if error is None else f"the script ended with {type(error).__name__}", error)
        if error is not None:
            print_uncaught(error)
        if isinstance(error, KeyboardInterrupt):
            sys.excepthook = _print_nothing
            raise error
        return int(error is not None)

    def _prepare(self) -> Action | None:
        """Everything up to the script's first line; None, and a word to the parent, where that fails."""
        request = self._request
        sys.orig_argv = [sys.executable, *(["-m"] if request.is_module else []), request.program, *request.arguments]
        try:
            return _module_program(request) if request.is_module else _file_program(request)
        except (OSError, ImportError, ValueError) as error:
            write_status(request.status, {"not_started": f"{error}"})
            return None

    def _begin(self) -> None:
        """Torch is there: watch it. Nothing that goes wrong here is the script's business."""
        try:
            with paused():
                from vramscope.recorders.scripts.session import ScriptSession
                from vramscope.recorders.scripts.windows import WindowPlan

            plan = WindowPlan(self._request.first, self._request.last, self._request.rearm)
            self._session = ScriptSession(Path(self._request.output), plan)
        except Exception as error:  # noqa: BLE001 - the script goes on unrecorded, and the parent says why
            self._message = why_stopped(error)

    def _end(self, remark: str, error: BaseException | None = None) -> None:
        status: dict[str, Any] = {"torch": _TORCH in sys.modules, "error": self._message}
        if self._session is not None:
            status |= self._session.close(remark, error)
        write_status(self._request.status, status)


def _file_program(request: ScriptRequest) -> Action:
    """A program in a file; a folder or a zip is run by its ``__main__``, as Python does."""
    path = os.path.join(Path.cwd(), request.program)  # noqa: PTH118 - as Python joins them, with every "." and ".."
    sys.argv = [request.program, *request.arguments]
    if _holds_modules(path):
        _set_first_path(path)
        return lambda: runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # as Python
    load, loader = _code_of(path)
    _set_first_path(str(Path(path).resolve().parent))
    main = _fresh_main()
    main.__dict__.update(__file__=path, __cached__=None, __loader__=loader)
    return lambda: exec(load(), main.__dict__)


def _code_of(path: str) -> tuple[Callable[[], CodeType], Loader]:
    """What gives a file's code, which may fail as the script's own fault, and the loader that Python names for it."""
    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", path)
        return lambda: cast(CodeType, compiled.get_code("__main__")), compiled
    with io.open_code(path) as file:
        source = file.read()
    return lambda: compile(source, path, "exec", dont_inherit=True), SourceFileLoader("__main__", path)


def _module_program(request: ScriptRequest) -> Action:
    """A module, as ``python -m`` runs it; all that goes wrong in its packages is its own."""
    sys.argv = ["-m", *request.arguments]
    _set_first_path(str(Path.cwd()))
    if importlib.util.find_spec(request.program.partition(".")[0]) is None:
        raise ImportError(f"no module named {request.program}")
    _fresh_main()
    return lambda: runpy._run_module_as_main(request.program)  # type: ignore[attr-defined]  # what ``python -m`` calls


def _holds_modules(path: str) -> bool:
    """Whether a path is a folder or a zip, whatever its name; a pipe must not be looked into."""
    return Path(path).is_dir() or (Path(path).is_file() and pkgutil.get_importer(path) is not None)


def _fresh_main() -> ModuleType:
    """An empty ``__main__`` in the place of ours; it stays alive as long as the interpreter."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):  # from then on it is made when it is asked for
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main


def _set_first_path(path: str) -> None:
    """Python puts this folder first itself, unless it was told not to trust it."""
    if not sys.flags.safe_path:
        sys.path[0] = path


def _print_nothing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook for what was printed already."""


def _leave(error: BaseException | None) -> NoReturn:
    """End a process that the script forked: all that Python does at its end, but not what C++ libraries do at theirs.

    Once torch's profiler has run, its library waits there for a thread that a forked process does not have.
    """
    code = code_of(error)
    threading._shutdown()  # type: ignore[attr-defined]  # what Py_FinalizeEx calls first
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        outcome(stream.flush)
    os._exit(code & 0xFF)


def main() -> None:
    """Run the request that is this process's only argument.

    Raises:
        SystemExit: with the exit code.
    """
    sys.exit(Child(ScriptRequest.from_json(sys.argv[1])).run())
