"""The autopsy of an allocation that failed, as plain text: it is written while a program is failing."""

import os
from collections.abc import Iterator
from pathlib import Path

from vramscope.ledger.autopsy import Autopsy, Relief, autopsy
from vramscope.ledger.holders import HeldBlock
from vramscope.ledger.ledger import Ledger
from vramscope.ledger.run_window import last_window
from vramscope.names import visible
from vramscope.recording.file import iterate_windows
from vramscope.units import format_size
from vramscope.views.text import category_label, share_text

_MODULES = 8
_LINES = 3
_INDENT = "  "
_WITHOUT_LINES = (
    "no source lines in this recording: vramscope compare traces them, and vramscope.profile() reads them from a GPU's "
    "allocator"
)


def autopsy_of(recording: Path, encoding: str) -> str:
    """The autopsy of a recording on disk; empty where it holds no failed allocation.

    Raises:
        RecordingError: it cannot be read.
    """
    found = autopsy(Ledger(last_window(iterate_windows(recording))))
    return "" if found is None else autopsy_text(found, encoding)


def autopsy_text(found: Autopsy, encoding: str = "utf-8") -> str:
    """The autopsy in lines, ending with a newline; names that cannot be shown are escaped."""
    lines = [
        *_head(found),
        *_composition(found),
        *_modules(found),
        *_blocks(found),
        *_cache(found),
        *_remedies(found),
    ]
    return "".join(f"{visible(line, encoding, longest=None)}\n" for line in lines)


def _head(found: Autopsy) -> Iterator[str]:
    asked = "an unknown size" if found.asked_bytes is None else _told(found, found.asked_bytes)
    yield f"out of memory on {found.device}: {asked} asked for{_where(found)}"
    held = f"{_exact(found.held_bytes)} were allocated"
    yield _INDENT + (held if found.reserved_bytes is None else f"{held}, {_exact(found.reserved_bytes)} reserved")
    if found.fitting_bytes is not None:
        short = f"; {format_size(found.short_bytes)} short" if found.short_bytes else ""
        yield f"{_INDENT}at most {_told(found, found.fitting_bytes)} would have fitted{short}"
    if found.is_hopeless:
        device = format_size(found.device_bytes or 0)
        yield f"{_INDENT}the request alone is more than {found.device} has ({device}): freeing memory cannot help"
    elif found.short_bytes == 0:
        yield f"{_INDENT}so there was room, but a limit forbade it (set_per_process_memory_fraction, a container's)"


def _where(found: Autopsy) -> str:
    parts = [f"in {found.phase}" if found.phase else "", f"module {found.module}" if found.module else ""]
    parts.append(f"by {found.operator}" if found.operator else "")
    return "".join(f", {part}" for part in parts if part)


def _composition(found: Autopsy) -> Iterator[str]:
    yield "held then, by category:"
    rows = sorted(found.by_category.items(), key=lambda row: -row[1])
    for category, size in rows:
        if size:
            share = share_text(size, found.held_bytes)
            yield f"{_INDENT}{category_label(category):<24}{format_size(size):>12}  {share}"
    yield f"{_INDENT}{'total':<24}{format_size(found.held_bytes):>12}"


def _modules(found: Autopsy) -> Iterator[str]:
    if not found.modules:
        return
    yield "by module, its children excluded:"
    for path, size in found.modules[:_MODULES]:
        yield f"{_INDENT}{path or '(none)':<40}{format_size(size):>12}  {share_text(size, found.held_bytes)}"
    rest = found.modules[_MODULES:]
    if rest:
        yield f"{_INDENT}{f'{len(rest)} more':<40}{format_size(sum(size for _, size in rest)):>12}"


def _blocks(found: Autopsy) -> Iterator[str]:
    if found.blocks:
        yield "largest blocks:"
    for held in found.blocks:
        yield f"{_INDENT}{format_size(held.facts.size_bytes):>12}  {origin_text(held)}"
    if found.blocks and not any(held.stack for held in found.blocks):
        yield f"{_INDENT}{'':>12}  ({_WITHOUT_LINES})"


def origin_text(held: HeldBlock) -> str:
    """What a block is, and who made it where."""
    facts = held.facts
    words = [category_label(facts.category), facts.label or facts.module, facts.operator or ""]
    return ", ".join(word for word in (*words, _stack_text(held)) if word)


def _stack_text(held: HeldBlock) -> str:
    """The lines that led to a block, the innermost first, as far as they fit on a line."""
    places = [f"{os.path.relpath(line.file)}:{line.line} {line.function}".rstrip() for line in held.stack[:_LINES]]
    return " < ".join(places)


def _cache(found: Autopsy) -> Iterator[str]:
    cache = found.fragments
    if cache is None:
        return
    free = cache.releasable_bytes + cache.stuck_bytes
    stuck = format_size(cache.stuck_bytes)
    yield f"the allocator's cache held {format_size(free)} free, {stuck} of it between blocks in use;"
    yield f"{_INDENT}its largest free block had {format_size(cache.largest_free_bytes)}"
    if cache.pending_bytes:
        yield f"{_INDENT}{format_size(cache.pending_bytes)} more were freed but waited for a stream"


def _remedies(found: Autopsy) -> Iterator[str]:
    if found.remedies:
        yield "what would have helped at that moment, each by itself:"
    for relief in found.remedies:
        yield f"{_INDENT}{format_size(relief.saved_bytes):>12}  {relief.what}{_verdict(found, relief)}"
        yield f"{_INDENT}{'':>12}  ({relief.basis})"


def _verdict(found: Autopsy, relief: Relief) -> str:
    if found.short_bytes is None:
        return ""
    return ": enough for this request" if relief.saved_bytes >= found.short_bytes else ": not enough by itself"


def _told(found: Autopsy, size_bytes: int) -> str:
    return f"about {format_size(size_bytes)}" if found.is_rounded else _exact(size_bytes)


def _exact(size_bytes: int) -> str:
    return format_size(size_bytes) if size_bytes < 1024 else f"{format_size(size_bytes)} ({size_bytes:,} B)"
