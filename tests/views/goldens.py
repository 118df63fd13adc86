"""Golden files: what a view gave when its author looked at it. VRAMSCOPE_WRITE_GOLDEN=1 writes them anew."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """The text is that of the golden file."""
    path = _FOLDER / name
    if os.environ.get("VRAMSCOPE_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
