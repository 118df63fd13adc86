"""When a session looks again for models that nobody runs."""

import torch
from torch import nn

from vramscope.recorders.scripts import scene as module
from vramscope.recorders.scripts.scene import Scene


def watched(monkeypatch) -> tuple[Scene, list[int]]:
    """A scene, and one item for each time that every live object was looked at."""
    scene, looks = Scene(), []
    monkeypatch.setattr(scene.roots, "unknown", lambda: looks.append(1) or [])
    return scene, looks


def test_every_live_object_is_looked_at_only_once_something_is_new(monkeypatch) -> None:
    scene, looks = watched(monkeypatch)
    model = nn.Linear(2, 2)
    scene.label_more_idle_models()
    assert len(looks) == 0
    scene.roots.add(model)
    scene.label_more_idle_models()
    scene.label_more_idle_models()
    assert len(looks) == 1
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scene.add_optimizer(optimizer)
    scene.label_more_idle_models()
    assert len(looks) == 2


def test_looks_that_find_nothing_end(monkeypatch) -> None:
    scene, looks = watched(monkeypatch)
    models = [nn.Linear(2, 2) for _ in range(module._MOST_VAIN_LOOKS + 3)]
    for model in models:
        scene.roots.add(model)
        scene.label_more_idle_models()
    assert len(looks) == module._MOST_VAIN_LOOKS
