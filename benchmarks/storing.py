"""Results on disk: whole or not at all, since long runs are stopped and taken up again."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one go; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What is there, empty where nothing is."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
