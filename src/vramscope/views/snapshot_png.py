"""The segment map: every segment of a device at one moment, its blocks coloured by what they were made for."""

from pathlib import Path

from vramscope.allocator.moment import MapSegment, Moment, PartKind
from vramscope.errors import OutputError
from vramscope.units import format_size

_COLOURS = {
    PartKind.BEFORE: "#4c72b0",
    PartKind.FORWARD: "#55a868",
    PartKind.BACKWARD: "#c44e52",
    PartKind.OPTIMIZER: "#8172b3",
    PartKind.WORKSPACE: "#ccb974",
    PartKind.COMMUNICATION: "#64b5cd",
    PartKind.OTHER: "#8c8c8c",
}
_FREE, _PENDING = "#ffffff", "#f2c894"
_ROWS = 64


def write_segment_map(moment: Moment, title: str, path: Path) -> None:
    """Draw the segments one after another, wrapped into rows of equal length, and save a PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    # matplotlib takes most of a second to import, and only this view needs it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    total = sum(segment.size for segment in moment.segments)
    row_bytes = max(1, -(-total // _ROWS))
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    pieces = strips(moment.segments, row_bytes)
    boxes = [Rectangle((start, row), length, 0.8) for row, start, length, _ in pieces]
    axes.add_collection(PatchCollection(boxes, facecolors=[colour for *_, colour in pieces], edgecolors="none"))
    for row, position in borders(moment.segments, row_bytes):
        axes.plot([position, position], [row, row + 0.8], color="black", linewidth=0.4)
    axes.set_facecolor("#dddddd")  # behind the last segment there is nothing, which is not the white of free memory
    axes.set(xlim=(0, row_bytes), ylim=(_ROWS, 0), xticks=[], yticks=[], title=title)
    axes.set_xlabel(f"{len(moment.segments)} segments, {format_size(total)}; a row is {format_size(row_bytes)}")
    keys = [Patch(facecolor=colour, edgecolor="black", label=name) for name, colour in _legend(moment)]
    figure.legend(handles=keys, loc="outside lower center", ncols=4)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise OutputError(
            f"{path}: the segment map cannot be written: {error.strerror}; choose another folder"
        ) from None


def _legend(moment: Moment) -> list[tuple[str, str]]:
    """What occurs in the map, with its bytes, and its colour."""
    layout = moment.layout
    kinds = [(part.kind.value.replace("_", " "), part.bytes, _COLOURS[part.kind]) for part in moment.parts]
    rest = [("waiting for a stream", layout.pending, _PENDING), ("free", layout.releasable + layout.stuck, _FREE)]
    return [(f"{name}: {format_size(size)}", colour) for name, size, colour in [*kinds, *rest] if size]


def strips(segments: tuple[MapSegment, ...], row_bytes: int) -> list[tuple[int, int, int, str]]:
    """(row, start, length, colour) of every stretch of memory, in bytes within its row; together they cover all."""
    pieces, position = [], 0
    for segment in segments:
        for block in segment.blocks:
            colour = _FREE if block.kind is None else _COLOURS[block.kind]
            pieces += _wrap(position, block.size, row_bytes, _PENDING if block.pending else colour)
            position += block.size
    return pieces


def _wrap(position: int, size: int, row_bytes: int, colour: str) -> list[tuple[int, int, int, str]]:
    pieces = []
    while size:
        row, start = divmod(position, row_bytes)
        length = min(size, row_bytes - start)
        pieces.append((row, start, length, colour))
        position, size = position + length, size - length
    return pieces


def borders(segments: tuple[MapSegment, ...], row_bytes: int) -> list[tuple[int, int]]:
    """(row, position) at which each segment begins."""
    places, position = [], 0
    for segment in segments:
        places.append(divmod(position, row_bytes))
        position += segment.size
    return places
