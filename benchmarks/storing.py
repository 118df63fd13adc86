"""Results on disk: whole or not at all, since long runs are stopped and taken up again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vramscope.views.atomic import atomic_path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one go; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What is there, empty where nothing is."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
