"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_net import CLASSES, ITEMS, MOMENTUM, SOLVER, write_data, write_net


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a net, its data and its solver."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, ITEMS)
    write_data(rng.standard_normal((ITEMS, 2, 3)), labels)
    write_net()
    Path("solver.prototxt").write_text(SOLVER + MOMENTUM)
    return tmp_path
