"""An allocation that found no memory, where a recording holds one."""

from rich.console import Group
from rich.text import Text

from vramscope.ledger.autopsy import autopsy
from vramscope.views.autopsy import autopsy_text
from vramscope.views.terminal.page import Page


def failures(page: Page) -> Group | None:
    """The autopsy of every pass that ended so; what a program survived is its own, as libraries try and fall back."""
    ended = [ledger for ledger in page.comparison.ledgers.values() if not ledger.recording.complete]
    found = [found for ledger in ended if (found := autopsy(ledger)) is not None]
    texts = [Text(autopsy_text(item, page.console.encoding).rstrip()) for item in found]
    return page.section("Out of memory", *texts) if texts else None
