"""Brings the pages that stand outside ``docs/`` into the site, so that each text exists once.

In the repository they are read where they are; in the site they stand at its root, so links that go up a folder lose
that step.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "results/**/*.md", "results/**/*.png", "results/**/*.json")
INTO_DOCS = re.compile(r"(?<=\]\()docs/")
OUT_OF_DOCS = re.compile(r"(?<=\]\()(?P<up>(?:\.\./)+)(?=results/|CONTRIBUTING\.md|CHANGELOG\.md|README\.md)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands outside, and the README as the first page."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the site."""
    if Path(str(page.file.abs_src_path)).is_relative_to(config.docs_dir):
        depth = len(Path(page.file.src_uri).parts) - 1
        return OUT_OF_DOCS.sub("../" * depth, markdown).replace("](README.md", "](index.md")
    return INTO_DOCS.sub("../" * (len(Path(page.file.src_uri).parts) - 1), markdown)
