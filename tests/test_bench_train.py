"""The drawing of where the time of training goes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from bench_train import limits, plot
from torch import device


def test_the_drawing_has_all_parts_and_the_limits(tmp_path: Path) -> None:
    stages = {"list": 1e6, "read": 2e4, "decode": 700.0, "resize and cut": 5e3}
    rates = {
        **stages,
        "loading, one core": 550.0,
        "loading, files": 800.0,
        "model fp32": 22.0,
        "training fp32, files": 20.0,
    }
    found = limits(rates, device("cpu"))
    limit = 1 / (1 / 2e4 + 1 / 700 + 1 / 5e3)
    assert found["loading, one core"] == pytest.approx((limit, 550 / limit))
    limit, share = found["training fp32, files"]
    assert limit == pytest.approx(1 / (1 / 800 + 1 / 22))
    assert share == pytest.approx(20 / limit)
    drawing = tmp_path / "times.svg"
    plot(rates, {"training fp32, files": limit}, "a machine", 2, drawing)
    text = drawing.read_text()
    for part in (
        "decode",
        "loading, one core",
        "loading, files",
        "training fp32, files",
        "800 images/s",
    ):
        assert f"<!-- {part} -->" in text or f"<!--  {part} -->" in text, part
