"""The page itself: static parts, the figures, the script and plotly.js, in one file."""

import base64
import hashlib
import html
import json
from importlib import resources, util
from pathlib import Path

from vramscope.errors import UnsupportedError
from vramscope.ledger.categories import CATEGORIES
from vramscope.ledger.comparison import Comparison
from vramscope.ledger.summary import PassSummary
from vramscope.names import visible
from vramscope.views.atomic import atomic_path
from vramscope.views.html.payload import page_payload
from vramscope.views.palette import STACK_ORDER
from vramscope.views.text import Scale, category_label, counted, window_words
from vramscope.views.why import explain

EXTENSION = "html"
_FACTS = (("batch", "batch {}"), ("seq", "seq {}"), ("dtype", "{}"), ("amp", "autocast {}"), ("device", "{}"))
_ACTIVE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""What could end a script element or its data early."""


def write_html(comparison: Comparison, path: Path) -> None:
    """Write the page.

    Raises:
        UnsupportedError: plotly is not installed.
        OutputError: the file cannot be written.
    """
    text = page_text(comparison)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page_text(comparison: Comparison) -> str:
    """The page: nothing in it reaches out, and its own policy lets only these very scripts run."""
    scripts = [_plotly(), _asset("page.js")]
    data = json.dumps(page_payload(comparison), separators=(",", ":")).translate(_ACTIVE)
    parts = {
        "POLICY": _policy(scripts),
        "TITLE": html.escape(f"{_name(comparison)}: memory"),
        "STYLE": _asset("page.css"),
        "HEADER": _header(comparison),
        "PEAKS": _peaks(comparison),
        "NOTES": _notes(comparison),
        "DATA": data,
        "PLOTLY": scripts[0],
        "SCRIPT": scripts[1],
    }
    pieces = _asset("page.html").split("%%")  # text and part names by turns
    return "".join(piece if index % 2 == 0 else parts[piece] for index, piece in enumerate(pieces))


def _asset(name: str) -> str:
    return resources.files("vramscope.views.html").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """plotly.js as it comes with the plotly package, which itself is not imported.

    Raises:
        UnsupportedError: it is not there.
    """
    found = util.find_spec("plotly")
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found is not None else []
    for folder in folders:
        file = folder / "package_data" / "plotly.min.js"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise UnsupportedError("--format html needs plotly, which is not installed: pip install 'vramscope[html]'")


def _policy(scripts: list[str]) -> str:
    """A content security policy: no network, and no script besides these."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _name(comparison: Comparison) -> str:
    workload = comparison.workload
    return visible(str(workload.get("name") or workload.get("target") or "recording"))


def _header(comparison: Comparison) -> str:
    """The model, its circumstances, the one sentence, and what makes the figures doubtful."""
    workload = comparison.workload
    facts = [counted(workload["parameter_count"], "parameter")] if workload.get("parameter_count") else []
    facts += [form.format(workload[key]) for key, form in _FACTS if workload.get(key) not in (None, "")]
    facts += [str(workload["optimizer"])] if workload.get("optimizer") else []
    facts += [window_words(comparison)] if comparison.window else []
    torch = comparison.environment.get("torch")
    facts += [f"torch {torch}"] if torch else []
    shown = "".join(f"<li>{html.escape(visible(fact))}</li>" for fact in facts)
    reason = explain(comparison, _scale(comparison))
    sentence = f'<p class="reason">{html.escape(reason)}</p>' if reason else ""
    return f'<h1>{html.escape(_name(comparison))}</h1><ul class="facts">{shown}</ul>{sentence}{_warnings(comparison)}'


def _warnings(comparison: Comparison) -> str:
    lines = ["PREDICTED, not measured: nothing ran on this device."] if comparison.predicted else []
    for name, summary in comparison.passes.items():
        if not summary.complete:
            lines.append(f"The {visible(name)} recording is incomplete: its end is missing.")
        if summary.allocator.max_disagreement_bytes:
            size = summary.allocator.max_disagreement_bytes
            lines.append(f"Do not trust {visible(name)}: ledger and allocator differ by up to {size:,} B.")
    return "".join(f'<p class="warning">{html.escape(line)}</p>' for line in lines)


def _scale(comparison: Comparison) -> Scale:
    return Scale.fitting(max((summary.peak.bytes for summary in comparison.passes.values()), default=0))


def _peaks(comparison: Comparison) -> str:
    """The main table: categories at each pass's peak, summing to the allocator's own total."""
    scale, passes = _scale(comparison), comparison.passes
    head = "".join(f"<th>{html.escape(visible(name))}</th>" for name in passes)
    rows = []
    for category in CATEGORIES:
        sizes = [summary.peak.by_category[category] for summary in passes.values()]
        if any(sizes) or category == "unattributed":
            swatch = f'<span class="swatch" data-category="{category}"></span>'
            rows.append(f"<tr><th>{swatch}{category_label(category)}</th>{_cells(sizes, scale, str(category))}</tr>")
    totals = _cells([summary.peak.bytes for summary in passes.values()], scale, "total")
    moments = "".join(f"<td>{html.escape(_moment(summary))}</td>" for summary in passes.values())
    return (
        f'<div class="split peaks"><table id="peaks"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f"<tfoot><tr><th>total</th>{totals}</tr>"
        f'<tr class="moment"><th>at</th>{moments}</tr></tfoot></table>{_bars(comparison)}</div>{_check(comparison)}'
    )


def _bars(comparison: Comparison) -> str:
    """The same as stacked bars on one scale."""
    widest = max((summary.peak.bytes for summary in comparison.passes.values()), default=0) or 1
    bars = []
    for name, summary in comparison.passes.items():
        sizes = summary.peak.by_category
        pieces = "".join(
            f'<span data-category="{category}" title="{category_label(category)}" '
            f'style="width:{100 * sizes[category] / widest:.4f}%"></span>'
            for category in STACK_ORDER
            if sizes[category]
        )
        bars.append(f'<div>{html.escape(visible(name))}<div class="bar">{pieces}</div></div>')
    return f'<div class="bars" aria-hidden="true">{"".join(bars)}</div>'


def _cells(sizes: list[int], scale: Scale, figure: str) -> str:
    return "".join(
        f'<td class="{"" if size else "zero"}" data-figure="{figure}" data-bytes="{size}" title="{size:,} B">'
        f"{scale.text(size)}</td>"
        for size in sizes
    )


def _moment(summary: PassSummary) -> str:
    parts = (summary.peak.phase or "outside every phase", summary.peak.module, summary.peak.operator or "")
    return " · ".join(visible(part) for part in parts if part)


def _check(comparison: Comparison) -> str:
    """The allocator's own word, where it agrees."""
    agreed = [
        f"{visible(name)} {summary.allocator.peak_bytes:,} B"
        for name, summary in comparison.passes.items()
        if not summary.allocator.max_disagreement_bytes and summary.allocator.peak_bytes == summary.peak.bytes
    ]
    whose = "the simulated allocator's" if comparison.predicted else "the allocator's own"
    words = f"✓ equals {whose} total to the byte: {', '.join(agreed)}"
    return f'<p class="check">{html.escape(words)}</p>' if agreed else ""


def _notes(comparison: Comparison) -> str:
    notes = dict.fromkeys(
        note
        for summary in comparison.passes.values()
        for note in (*summary.notes, *(summary.host.notes if summary.host is not None else ()))
    )
    if not notes:
        return ""
    lines = "".join(f"<li>{html.escape(visible(note))}</li>" for note in notes)
    return f"<section><h2>Notes</h2><ul>{lines}</ul></section>"
