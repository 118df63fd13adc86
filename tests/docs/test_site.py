"""The documentation's site builds without a warning, and shows the API's docstrings."""

from pathlib import Path

import pytest
from tests.processes import python

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    python("-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder, cwd=ROOT)
    return folder


def test_the_readme_is_the_first_page(site: Path) -> None:
    assert "Where does the memory of a PyTorch model go" in (site / "index.html").read_text(encoding="utf-8")


def test_the_reference_has_every_public_name(site: Path) -> None:
    import vramscope

    page = (site / "api" / "index.html").read_text(encoding="utf-8")
    missing = [name for name in vramscope.__all__ if name != "__version__" and f"{name}</" not in page]
    assert missing == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text, page
        assert 'rel="stylesheet" href="http' not in text, page
