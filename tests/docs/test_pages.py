"""The sessions in the README and the guide are run and print what the page shows; those that are not say why."""

import re
from pathlib import Path

import pytest
import torch
from tests.docs.console import Block, blocks_of, commands_of, comparable, rewritten, run_page

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RESULTS = sorted((ROOT / "results").rglob("*.md"))
RUN = [page for page in PAGES if any(block.is_run for block in blocks_of(page.read_text(encoding="utf-8")))]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the pages show a machine without a GPU")
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    for block, runs in run_page(page.read_text(encoding="utf-8"), tmp_path):
        for command, shown, printed in runs:
            assert comparable(block, printed) == comparable(block, shown), f"$ {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_row_of_a_table_has_as_many_cells_as_its_rule(page: Path) -> None:
    tables = re.findall(r"^\|.*\n(?:^\|.*\n)+", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    uneven = [table for table in tables if len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) > 1]
    assert uneven == []


def test_a_block_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            assert block.note != "not run" or block.value, f"{page}: {block.body}"


SESSION = """Text.

<!-- file: greet.sh -->
```bash
echo "hello $1"
```

```console
$ bash greet.sh you
hello me
$ bash greet.sh \\
    "two words"
hello two words
```

<!-- varies -->
```console
$ echo 12 of 4,000
7 of 31
```

<!-- not run: it takes a GPU -->
```console
$ exit 1
```
"""


def test_a_page_is_rewritten_with_what_its_commands_print() -> None:
    new = rewritten(SESSION)
    assert new == SESSION.replace("hello me", "hello you").replace("7 of 31", "12 of 4,000")


def test_figures_that_vary_are_not_compared_but_words_are(tmp_path: Path) -> None:
    (_, first), (block, second) = run_page(SESSION, tmp_path)
    assert [shown == printed for _, shown, printed in first] == [False, True]
    assert [comparable(block, shown) == comparable(block, printed) for _, shown, printed in second] == [True]
    assert comparable(block, "7 in 31\n") != comparable(block, "12 of 4,000\n")


def test_commands_and_outputs_of_a_block() -> None:
    block = Block("", "", "console", "$ one \\\n  more\nout\n\nput\n$ two\n", 0, 0)
    assert list(commands_of(block)) == [("one \\\n  more", "out\n\nput\n"), ("two", "")]
