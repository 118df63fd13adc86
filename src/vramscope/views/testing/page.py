"""The index page of a run of tests: one self-contained file, without a script."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vramscope.ledger.categories import Category
from vramscope.names import visible
from vramscope.units import format_size
from vramscope.views.atomic import atomic_path
from vramscope.views.palette import DARK, PAINTS, STACK_ORDER
from vramscope.views.testing.terminal import Results, largest_part
from vramscope.views.text import category_label

INDEX = "index.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1b2330;--dim:#667085;--line:#e3e7ee;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--paper:#12161d;--card:#1a2029;--ink:#e6eaf1;--dim:#94a0b3;--line:#2c3542;
--bad:#ff8a7a}}
body{margin:0 auto;max-width:1200px;padding:26px 24px;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,"DejaVu Sans",sans-serif}
h1{font-size:24px;margin:0}p{color:var(--dim)}
table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line);
font-variant-numeric:tabular-nums}
td,th{padding:5px 12px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:top}
td:first-child,th:first-child,.text{text-align:left}td:first-child{white-space:normal;overflow-wrap:anywhere;width:60%}
th,.zero{color:var(--dim);font-weight:600}.zero{font-weight:400}.failed{color:var(--bad);font-weight:600}
.why{color:var(--bad);font-size:13px}
.bar{display:flex;height:8px;margin-top:4px;border-radius:2px;overflow:hidden}
.legend span{display:inline-block;width:11px;height:11px;border-radius:3px;margin:0 6px 0 14px;vertical-align:-1px}
code{font-size:13px}
"""


def write_index(results: Results, folder: Path) -> Path:
    """Write the index page into a folder; gives its path.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / INDEX
    with atomic_path(path) as temporary:
        temporary.write_text(index_text(results), encoding="utf-8")
    return path


def index_text(results: Results) -> str:
    """The page: a row for every test, the heaviest first, with a link to its recording."""
    ranked = sorted(results.items(), key=lambda item: (-item[1]["peak_bytes"], item[0]))
    widest = max((facts["peak_bytes"] for facts in results.values()), default=0) or 1
    rows = "\n".join(_row(name, facts, widest) for name, facts in ranked)
    failed = sum(facts["outcome"] == "failed" for facts in results.values())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>memory of tests</title>'
        f"<style>{_STYLE}{_paints()}</style></head><body><h1>Memory of tests</h1>"
        f"<p>{len(results):,} tests measured, {failed:,} failed. What a test allocated itself; each bar is its peak by "
        f"category.</p><p>Open a recording with <code>vramscope report FILE --format html</code>.</p>{_legend(results)}"
        f'<table><thead><tr><th>test</th><th class="text">outcome</th><th>peak</th><th>left after</th>'
        f'<th class="text">most of it</th><th>recording</th></tr></thead><tbody>\n{rows}\n</tbody></table>'
        "</body></html>\n"
    )


def _paints() -> str:
    """A class for the colour of each category, and lighter ones for a dark page."""
    light = "".join(f".{category}{{background:{paint.colour}}}" for category, paint in PAINTS.items())
    dark = "".join(f".{category}{{background:{colour}}}" for category, colour in DARK.items())
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _row(name: str, facts: Mapping[str, Any], widest: int) -> str:
    outcome = html.escape(facts["outcome"])
    place = facts.get("recording")
    reasons = "".join(
        f'<div class="why">{html.escape(visible(reason, longest=None))}</div>' for reason in facts.get("problems", ())
    )
    link = f'<a href="{html.escape(quote(place))}">.vram</a>' if place else ""
    return (
        f"<tr><td>{html.escape(visible(name))}{reasons}{_bar(facts, widest)}</td>"
        f'<td class="text {outcome}">{outcome}</td>{_size(facts["peak_bytes"])}{_size(facts["leaked_bytes"])}'
        f'<td class="text">{html.escape(largest_part(facts))}</td><td>{link}</td></tr>'
    )


def _size(size_bytes: int) -> str:
    zero = "" if size_bytes else ' class="zero"'
    return f'<td{zero} data-bytes="{size_bytes}" title="{size_bytes:,} B">{format_size(size_bytes)}</td>'


def _bar(facts: Mapping[str, Any], widest: int) -> str:
    pieces = "".join(
        f'<span class="{category}" style="width:{100 * facts["by_category"].get(category, 0) / widest:.3f}%" '
        f'title="{category_label(category)}"></span>'
        for category in STACK_ORDER
        if facts["by_category"].get(category)
    )
    return f'<div class="bar" aria-hidden="true">{pieces}</div>'


def _legend(results: Results) -> str:
    def is_used(category: Category) -> bool:
        return any(facts["by_category"].get(category) for facts in results.values())

    used = [category for category in STACK_ORDER if is_used(category)]
    items = (f'<span class="{c}"></span>{category_label(c)}' for c in used)
    return f'<p class="legend">{"".join(items)}</p>'
