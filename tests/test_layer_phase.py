"""A layer's own ``phase`` in a net of the other phase."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import caffe2torch

pytestmark = pytest.mark.filterwarnings("ignore::caffe2torch.Caffe2TorchWarning")
"""The statistics are the filler's: mean and variance 0."""

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 5 dim: 3 dim: 7 dim: 2 } } }
layer { name: "frozen" type: "BatchNorm" bottom: "x" top: "frozen" phase: TEST }
layer { name: "drop" type: "Dropout" bottom: "x" top: "drop" phase: TEST }
layer { name: "free" type: "BatchNorm" bottom: "x" top: "free" }
layer { name: "batch" type: "BatchNorm" bottom: "x" top: "batch" phase: TRAIN }
"""


def inputs() -> torch.Tensor:
    return torch.randn(5, 3, 7, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1


def check(outputs: dict[str, torch.Tensor], x: torch.Tensor, training: bool) -> None:
    by_batch = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), correction=0, keepdim=True)
    running = x / 1e-5**0.5
    torch.testing.assert_close(outputs["drop"], x)
    torch.testing.assert_close(outputs["frozen"], running)
    torch.testing.assert_close(outputs["batch"], by_batch, atol=1e-4, rtol=1e-4)
    free = by_batch if training else running
    torch.testing.assert_close(outputs["free"], free, atol=1e-4, rtol=1e-4)


def test_it_holds_in_the_module_whatever_the_mode() -> None:
    graph = caffe2torch.read(prototxt=NET.encode(), phase="TRAIN", allow_missing=True)
    assert graph.own_phases == {"frozen": "TEST", "drop": "TEST"}
    module, x = caffe2torch.load(prototxt=NET.encode(), phase="TRAIN", allow_missing=True), inputs()
    check(module(x), x, training=True)
    assert not module.get_submodule("drop").training
    assert module.train().get_submodule("free").training
    check(module(x), x, training=True)


def test_a_layer_of_phase_train_trains_in_a_net_for_inference() -> None:
    module, x = caffe2torch.load(prototxt=NET.encode(), allow_missing=True), inputs()
    check(module(x), x, training=False)
    assert module.eval().get_submodule("batch").training
    assert module.get_buffer("batch.scale_factor").item() == 1  # Its statistics went on.


def test_it_holds_in_emitted_source(tmp_path: Path) -> None:
    target = tmp_path / "net.py"
    (tmp_path / "net.prototxt").write_text(NET)
    options = {"phase": "TRAIN", "allow_missing": True}
    caffe2torch.convert(None, target, tmp_path / "net.prototxt", **options)
    spec = importlib.util.spec_from_file_location("emitted_phase", target)
    assert spec is not None
    assert spec.loader is not None
    emitted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(emitted)
    x = inputs()
    check(emitted.load()(x), x, training=True)
