"""hubconf.py: what torch.hub finds and loads from this repository."""

from __future__ import annotations

import importlib.util
import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import squeezenet
from squeezenet.weights import load_model

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "models" / "squeezenet_digits.caffemodel"


def load(entry: str, **options: Any) -> torch.nn.Module:
    return torch.hub.load(str(ROOT), entry, source="local", **options)


def test_entries_are_documented_and_dependencies_are_ours() -> None:
    module = runpy.run_path(str(ROOT / "hubconf.py"))
    entries = {name: value for name, value in module.items() if inspect.isfunction(value)}
    public = {name: value for name, value in entries.items() if not name.startswith("_")}
    assert public.keys() == {"squeezenet1_0", "squeezenet1_1"}
    assert all("num_classes" in inspect.getdoc(entry) for entry in public.values())
    assert all(importlib.util.find_spec(name) for name in module["dependencies"])


@pytest.mark.parametrize(("entry", "version"), [("squeezenet1_0", "1.0"), ("squeezenet1_1", "1.1")])
def test_new_weights(entry: str, version: str) -> None:
    model = load(entry, num_classes=7)
    assert model.architecture == {
        "name": "squeezenet",
        "version": version,
        "bypass": None,
        "num_classes": 7,
    }
    assert load(entry).num_classes == 1000


def test_weights_of_a_file() -> None:
    model = load("squeezenet1_1", weights=DIGITS)
    wanted = load_model(DIGITS).model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert load("squeezenet1_1", weights=DIGITS, num_classes=3).num_classes == 3


def test_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(squeezenet, "load_pretrained", lambda *a, **k: asked.append((a, k)))
    load("squeezenet1_0", pretrained=True, num_classes=5)
    load("squeezenet1_1", pretrained=True)
    assert asked == [
        (("1.0", None), {"num_classes": 5}),
        (("1.1", None), {"num_classes": None}),
    ]
