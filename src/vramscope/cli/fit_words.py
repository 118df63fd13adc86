"""What a finished `fit` says: its JSON, its lines for a terminal, and its picture."""

from typing import TYPE_CHECKING, Any

from vramscope.findings import Panel, Picture, Series
from vramscope.predict.gpus import CONTEXT_BYTES, GIB
from vramscope.units import format_size
from vramscope.views.json import SCHEMA

if TYPE_CHECKING:
    from vramscope.predict.fit import Fit, Limit, OtherGpu, Outcome

_WORDS = {"batch": "batch", "seq": "sequence"}


def document_of(found: "Fit") -> dict[str, Any]:
    """The JSON document; sizes are bytes."""
    plan, limit = found.plan, found.limit
    size, next_need = found.found.size, found.next_need
    return {
        "schema": SCHEMA,
        "tool": "fit",
        "target": plan.target,
        "gpu": limit.gpu.name,
        "pass": plan.name,
        # less the device: nothing ran there, and the GPU is named above
        "options": {name: value for name, value in plan.options.to_json().items() if name != "device"},
        "over": found.over,
        "batch": size if found.over == "batch" else plan.options.batch,
        "seq": size if found.over == "seq" else plan.options.seq,
        "fits": found.fits,
        "peak_bytes": found.need.process_bytes,
        "next_size": found.found.next_size,
        "next_peak_bytes": None if next_need is None else next_need.process_bytes,
        "next_refused": found.found.refused,
        "notes": list(found.need.remarks),
        "limit_bytes": limit.bytes,
        "usable_bytes": limit.usable_bytes,
        "headroom_bytes": limit.headroom_bytes,
        "outside_allocator_bytes": found.need.process_bytes - found.need.reserved_bytes,
        "curve": [
            {
                "size": at,
                "allocated_bytes": need.allocated_bytes,
                "reserved_bytes": need.reserved_bytes,
                "process_bytes": need.process_bytes,
            }
            for at, need in found.found.needs.items()
        ],
        "remedies": [_remedy(found, outcome) for outcome in found.outcomes],
        "gpus": [_gpu(other) for other in found.others],
    }


def _remedy(found: "Fit", outcome: "Outcome") -> dict[str, Any]:
    need = outcome.need
    return {
        "name": outcome.name,
        found.over: found.found.next_size,
        "peak_bytes": None if need is None else need.process_bytes,
        "allocated_bytes": None if need is None else need.allocated_bytes,
        "saves_bytes": None if need is None else _without(found).process_bytes - need.process_bytes,
        "fits": outcome.fits,
        "why": outcome.why,
    }


def _without(found: "Fit") -> Any:
    """What the size needs that the remedies are predicted for."""
    return found.next_need or found.need


def _gpu(other: "OtherGpu") -> dict[str, Any]:
    size = other.found.size
    return {
        "gpu": other.limit.gpu.name,
        "limit_bytes": other.limit.bytes,
        "size": size,
        "fits": size > 0,
        "peak_bytes": other.found.needs[size].process_bytes if size else None,
    }


def words_of(found: "Fit", verbose: bool) -> str:
    """The lines for a terminal."""
    parts = (_answer(found), _explanation(found), _remedy_lines(found), _gpu_lines(found, verbose), _remarks(found))
    return "\n".join(line for part in parts for line in part)


def _remarks(found: "Fit") -> list[str]:
    """What the answer assumes, leaves out, and how sure it is."""
    return ["", *found.need.remarks] if found.need.remarks else []


def _answer(found: "Fit") -> list[str]:
    what, size = _WORDS[found.over], found.found.size
    plan = found.plan
    head = f"PREDICTED, nothing was measured: {plan.name} of {plan.target} {_where(found.limit)}"
    refused = [f"{what} {size + 1} cannot be run: {found.found.refused}"] if found.found.refused else []
    if not found.fits:
        none = f"{_nothing_fits(found)}: it needs {format_size(found.need.process_bytes)}"
        return [head, none, *refused]
    fits = f"{what} {size} fits with {format_size(found.need.process_bytes)}"
    if found.next_need is None:
        return [head, f"{fits}; {''.join(refused) or 'the search ends there'}"]
    needed = found.next_need.process_bytes
    over = format_size(needed - found.limit.bytes)
    next_one = f"{what} {found.found.next_size} would need {format_size(needed)}, {over} more than the limit"
    return [head, f"{fits}; {next_one}", *refused]


def _nothing_fits(found: "Fit") -> str:
    return f"not even {_WORDS[found.over]} {found.found.next_size} fits"


def _where(limit: "Limit") -> str:
    """The GPU; where another amount of memory was given, that amount, and whose rules hold."""
    if limit.usable_bytes == limit.gpu.usable_bytes:
        return f"on {limit.gpu.title}"
    return f"with {format_size(limit.usable_bytes)} for programs, by the rules of {limit.gpu.title}"


def _explanation(found: "Fit") -> list[str]:
    limit, need = found.limit, found.need
    outside = need.process_bytes - need.reserved_bytes
    lines = [
        f"limit {format_size(limit.bytes)}: {format_size(limit.usable_bytes)} that CUDA has for programs, less "
        f"{format_size(limit.headroom_bytes)} of headroom (--headroom)",
        f"counted against it: {format_size(need.reserved_bytes)} reserved for {format_size(need.allocated_bytes)} of "
        f"tensors, and {format_size(outside)} outside the allocator, the most that is known (context"
        f"{', NCCL' if outside > CONTEXT_BYTES[1] else ''})",
    ]
    if found.fits and found.next_need and found.next_need.reserved_bytes + _least_outside(found) <= limit.bytes:
        what, size, least = _WORDS[found.over], found.found.next_size, format_size(_least_outside(found))
        lines.append(f"{what} {size} may fit too: outside the allocator there may be as little as {least}")
    return lines


def _least_outside(found: "Fit") -> int:
    """Bytes outside the allocator where as little is there as was ever seen."""
    from vramscope.predict.parallel import NCCL_BYTES  # loads torch, as the prediction did

    return CONTEXT_BYTES[0] + (NCCL_BYTES[0] if found.plan.setup.ranks else 0)


def _remedy_lines(found: "Fit") -> list[str]:
    if not found.outcomes:
        return []
    without, what = _without(found), _WORDS[found.over]
    lines = ["", f"each remedy by itself, for {what} {found.found.next_size}:"]
    for outcome in found.outcomes:
        if outcome.need is None:
            lines.append(f"  {outcome.name:<27} not possible: {outcome.why}")
            continue
        saved = without.process_bytes - outcome.need.process_bytes
        change = f"{format_size(abs(saved))} {'less' if saved >= 0 else 'more'}"
        verdict = "fits" if outcome.fits else "does not fit"
        tensors = f"{format_size(outcome.need.allocated_bytes)} tensors"
        process = f"{format_size(outcome.need.process_bytes):>10}"
        lines.append(f"  {outcome.name:<27} {process}  {change:>15}  {tensors:>18}  {verdict}")
    return lines


def _gpu_lines(found: "Fit", verbose: bool) -> list[str]:
    lines = ["", "other GPUs, with the same --headroom:"]
    for other in found.others:
        size, limit = other.found.size, format_size(other.limit.bytes)
        takes = f"{_WORDS[found.over]} {size}" if size else "nothing"
        lines.append(f"  {other.limit.gpu.name:<27} {limit:>10}  {takes}")
    if verbose:
        lines += ["", f"predicted ({_WORDS[found.over]}: allocated, reserved, process):"]
        lines += [
            f"  {size:>8}: {need.allocated_bytes:,} {need.reserved_bytes:,} {need.process_bytes:,}"
            for size, need in found.found.needs.items()
        ]
    return lines if found.others or verbose else []


def picture_of(found: "Fit") -> Picture:
    """Peak against size with the limits of this GPU and its neighbours."""
    sizes = tuple(map(float, found.found.needs))
    needs = list(found.found.needs.values())
    lines = {
        "process, at most": [need.process_bytes for need in needs],
        "reserved": [need.reserved_bytes for need in needs],
        "allocated": [need.allocated_bytes for need in needs],
    }
    series = tuple(Series(label, tuple(size / GIB for size in line), sizes) for label, line in lines.items())
    what = _WORDS[found.over]
    levels = {f"limit {_where(found.limit)}: {format_size(found.limit.bytes)}": found.limit.bytes / GIB}
    highest = max(need.process_bytes for need in needs)
    levels |= {
        f"limit on {other.limit.gpu.title}": other.limit.bytes / GIB
        for other in found.others
        if other.limit.bytes < highest
    }
    answer = f"{what} {found.found.size} is the largest that fits" if found.fits else _nothing_fits(found)
    title = f"{found.plan.name} of {found.plan.target}, PREDICTED, not measured"
    return Picture(f"{found.plan.target}: {answer}", (Panel(title, what, "memory (GiB)", series, levels=levels),))
