"""What is built for a release holds what it needs, and nothing of the machine that built it."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from tests.processes import python

import vramscope

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="the extra dev is not installed")
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_the_wheel_holds_every_module_and_what_they_read(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "vramscope").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names == set()


def test_the_wheel_declares_its_version_and_typing(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        assert "vramscope/py.typed" in archive.namelist()
    assert f"\nVersion: {vramscope.__version__}\n" in text
    assert "\nRequires-Python: >=3.11\n" in text


def test_the_sdist_can_build_and_holds_no_recording(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "src/vramscope/__init__.py"} <= set(names)
    assert [name for name in names if name.endswith((".vram", ".pickle"))] == []
