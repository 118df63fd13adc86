"""The houses under src/vramscope and the one way in which imports point between them, read from the source itself.

A house that does not exist yet is passed over; a house that exists must be declared in `MAY_IMPORT`.
"""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(importlib.util.find_spec("vramscope").origin).parent

BASICS = {"errors", "units", "names", "collector"}
MIDDLE = {"recording", "ledger", "allocator", "recorders", "views", "predict", "workloads", "experiments", "findings"}
MAY_IMPORT = {
    "errors": set(),
    "units": {"errors"},
    "names": set(),
    "collector": set(),
    "recording": BASICS,
    "ledger": BASICS | {"recording"},
    "allocator": BASICS | {"recording"},
    # a GPU allocator's own history is read as snapshots of it are
    "recorders": BASICS | {"recording", "allocator"},
    # what experiments found, said without torch, so that views can show it
    "findings": BASICS | {"ledger"},
    "views": BASICS | {"recording", "ledger", "allocator", "findings"},
    "workloads": BASICS | {"recording", "recorders"},
    "predict": BASICS | {"recording", "ledger", "allocator", "recorders", "workloads"},
    "experiments": BASICS | {"recording", "ledger", "allocator", "recorders", "workloads", "predict", "findings"},
    # the Python API, beside the command line
    "profiling": BASICS | {"recording", "recorders", "ledger", "views"},
    # the public names; each house below imports its neighbours by their own names instead
    "__init__": BASICS | MIDDLE | {"profiling"},
    "integrations": BASICS | MIDDLE | {"__init__"},
    # what the pytest plugin stands on
    "testing": BASICS | {"recording", "ledger", "recorders", "views"},
    "pytest_plugin": BASICS | MIDDLE | {"__init__", "profiling", "testing"},
    "cli": BASICS | MIDDLE | {"__init__"},
    "__main__": {"cli"},
}
# What every house may take from the package itself.
FACTS_OF_THE_PACKAGE = {"__version__"}
WITHOUT_TORCH = ("errors", "units", "names", "collector", "recording", "ledger", "allocator", "findings", "views")
TORCH_FAMILY = {"torch", "torchvision", "torchaudio", "timm", "transformers", "lightning", "peft", "bitsandbytes"}
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|tmp|Users|mnt|opt)/|\b[A-Z]:\\")


class Import(NamedTuple):
    """A module that a file imports, and the line on which it does."""

    module: str
    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def house_of(file: Path, source: Path) -> str:
    """The top-level package or module that a file belongs to: ``ledger`` for ``ledger/blocks.py``."""
    return file.relative_to(source).with_suffix("").parts[0]


def imports_of(file: Path, source: Path) -> Iterator[Import]:
    """Every import in a file, wherever it stands, by absolute name; one entry for each name taken from a package."""
    package = ("vramscope", *file.relative_to(source).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*start, *([node.module] if node.module else [])])
            modules = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            modules = [part.value for part in node.args[:1] if isinstance(part, ast.Constant)]
        else:
            continue
        for module in modules:
            yield Import(module, file, node.lineno)


def all_imports(source: Path) -> list[Import]:
    return [found for file in sorted(source.rglob("*.py")) for found in imports_of(file, source)]


def house_imported(module: str) -> str | None:
    """The house that an absolute module name leads to; `None` outside vramscope and for its version."""
    top, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    if top != "vramscope" or name in FACTS_OF_THE_PACKAGE:
        return None
    return name if name in MAY_IMPORT else "__init__"


def houses(source: Path) -> set[str]:
    """The packages and modules that stand directly under the source folder."""
    return {house_of(file, source) for file in source.rglob("*.py")}


def wrong_directions(source: Path) -> list[str]:
    """Imports from one house of another that it may not know."""
    found = []
    for entry in all_imports(source):
        house, imported = house_of(entry.file, source), house_imported(entry.module)
        if imported is not None and imported != house and imported not in MAY_IMPORT.get(house, set()):
            found.append(f"{entry}: {house} may not import {imported}")
    return found


def torch_imports(source: Path) -> list[str]:
    """Imports of torch, or of a library that loads it, in houses that must run without it."""
    return [
        str(entry)
        for entry in all_imports(source)
        if house_of(entry.file, source) in WITHOUT_TORCH and entry.module.partition(".")[0] in TORCH_FAMILY
    ]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def modules_without_torch() -> list[str]:
    files = [file for file in sorted(SOURCE.rglob("*.py")) if house_of(file, SOURCE) in WITHOUT_TORCH]
    names = (("vramscope", *file.relative_to(SOURCE).with_suffix("").parts) for file in files)
    return [".".join(name).removesuffix(".__init__") for name in names]


def test_the_declared_directions_have_no_cycle() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_every_house_is_declared() -> None:
    undeclared = houses(SOURCE) - set(MAY_IMPORT)
    assert not undeclared, f"say in MAY_IMPORT what these may import: {sorted(undeclared)}"


def test_imports_point_one_way() -> None:
    assert wrong_directions(SOURCE) == []


def test_houses_of_meaning_never_import_torch() -> None:
    assert torch_imports(SOURCE) == []


def test_houses_of_meaning_run_where_torch_is_not_installed() -> None:
    # None in sys.modules makes `import torch` fail as if it were missing
    imports = "".join(f"import {name}\n" for name in modules_without_torch())
    result = run_python(f"import sys\nsys.modules['torch'] = None\n{imports}")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", ["vramscope", "vramscope.cli.main", "vramscope.pytest_plugin"])
def test_start_up_does_not_import_torch(module: str) -> None:
    relative = module.split(".")[1:]
    if relative and not SOURCE.joinpath(*relative).with_suffix(".py").exists():
        pytest.skip(f"{module} does not exist yet")
    result = run_python(f"import sys, {module}; print('torch' in sys.modules)")
    assert (result.returncode, result.stdout) == (0, "False\n"), result.stderr


def test_every_package_says_what_lives_in_it() -> None:
    packages = {file.parent for file in SOURCE.rglob("*.py")}
    silent = [
        str(package)
        for package in sorted(packages)
        if not (package / "__init__.py").exists()
        or not ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_source_file_knows_a_machine() -> None:
    files = [file for file in sorted(SOURCE.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    lines = [
        f"{file}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert lines == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("recording/file.py", "from vramscope.ledger.blocks import Block"),
        ("recording/file.py", "def load():\n    import vramscope.recorders"),
        ("recording/file.py", "from ..views import terminal"),
        ("recording/file.py", "from vramscope import cli"),
        ("recording/file.py", "from vramscope import Ledger"),
        ("recording/file.py", "import importlib\nimportlib.import_module('vramscope.cli.main')"),
        ("recorders/profiler.py", "from vramscope.workloads import Workload"),
        ("views/table.py", "if True:\n    from vramscope.recorders.host import peak"),
        ("ledger/peaks.py", "from .. import views"),
        ("experiments/one.py", "from vramscope.cli import main"),
    ],
)
def test_a_wrong_direction_is_found(tmp_path: Path, file: str, line: str) -> None:
    plant(tmp_path, {file: line})
    assert len(wrong_directions(tmp_path)) == 1


def test_allowed_directions_are_left_alone(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "views/table.py": "import json\nfrom vramscope.ledger.blocks import Block\nfrom ..recording import Marks\n",
            "views/chart.py": "from . import table\nfrom vramscope.units import format_size",
            "ledger/version.py": "from vramscope import __version__",
            "cli/main.py": "import vramscope\nfrom vramscope import profile, views",
            "__init__.py": "def __getattr__(name):\n    from vramscope.recorders import profile",
        },
    )
    assert wrong_directions(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "import torch.cuda as cuda",
        "from torch import nn",
        "def late():\n    from torch.nn import Module",
        "import importlib\nimportlib.import_module('torch')",
        "import transformers",
    ],
)
@pytest.mark.parametrize("house", ["recording", "ledger", "allocator", "views"])
def test_a_torch_import_is_found(tmp_path: Path, house: str, line: str) -> None:
    plant(tmp_path, {f"{house}/module.py": line, "recorders/profiler.py": line})
    assert len(torch_imports(tmp_path)) == 1


@pytest.mark.parametrize("line", ['"/home/ada/model.py"', "# see /mnt/data/notes", r"path = 'C:\models'", "'/tmp/out'"])
def test_a_machine_path_is_found(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", ['"/proc/self/clear_refs"', "torch/opt/adam.py", "~/tmp/model.py", "a /b/ c", r"'a:\n'"]
)
def test_other_paths_are_left_alone(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def plant(source: Path, files: dict[str, str]) -> None:
    """Write a small source tree with an empty package for every declared house."""
    for house in MAY_IMPORT:
        target = source / f"{house}.py" if house.startswith("__") else source / house / "__init__.py"
        target.parent.mkdir(exist_ok=True)
        target.write_text("", encoding="utf-8")
    for name, text in files.items():
        (source / name).write_text(text, encoding="utf-8")
