"""NaN and infinity that a net makes: each layer after it compares and multiplies as Caffe does."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support import run_onnx

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch

Array = npt.NDArray[np.float32]
LOWEST = np.finfo(np.float32).min
NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 6 } } }
layer { name: "z" type: "Input" top: "z" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 6 } } }
layer { name: "log" type: "Log" bottom: "x" top: "a" }
layer { name: "inverse" type: "Power" bottom: "x" top: "b" power_param { power: -1 } }
layer { name: "join" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }
"""
"""a has -inf (of 0) and NaN (of negative numbers), b has inf and -inf (of 0 and -0)."""


def inputs() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 2, 3, 4, 6)).astype(np.float32)
    x[0, 0, :, :3], x[0, 1, ::2], x[1, 2, 1] = 0, -0.0, 0
    x[1, 0] = -1  # Windows of NaN alone.
    return {"x": x, "z": z}


def windows(x: Array, reduce: Callable[[Array], float]) -> Array:
    """2 x 2 windows with stride 2."""
    parts = x.reshape(2, 3, 2, 2, 3, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 2, 3, 4)
    return np.apply_along_axis(reduce, -1, parts).astype(np.float32)


def largest(values: Array) -> float:
    found = LOWEST
    for value in values:
        found = value if value > found else found
    return float(found)


def columns(x: Array) -> Array:
    parts = [x[:, :, i : i + 3, j : j + 5] for i in range(2) for j in range(2)]
    return np.stack(parts, 2).reshape(2, 12, 3, 5)


def relu(x: Array, slope: float) -> Array:
    return np.where(x < 0, 0, x) + np.float32(slope) * np.where(x > 0, 0, x)


CASES: dict[str, tuple[str, Callable[[Array, Array], Array]]] = {
    "MAX pooling": (
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
        lambda x, z: windows(x, largest),
    ),
    "global MAX pooling": (
        'type: "Pooling" pooling_param { global_pooling: true }',
        lambda x, z: np.array([[[[largest(c.ravel())]] for c in item] for item in x], np.float32),
    ),
    "SPP": (
        'type: "SPP" spp_param { pyramid_height: 1 }',
        lambda x, z: np.array([[[[largest(c.ravel())]] for c in item] for item in x], np.float32),
    ),
    "AVE pooling": (
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 pool: AVE }',
        lambda x, z: windows(x, np.mean),
    ),
    "Eltwise MAX": (
        'type: "Eltwise" bottom: "z" eltwise_param { operation: MAX }',
        lambda x, z: np.where(x > z, x, z),
    ),
    "ReLU": ('type: "ReLU"', lambda x, z: relu(x, 0)),
    "leaky ReLU": (
        'type: "ReLU" relu_param { negative_slope: 0.5 }',
        lambda x, z: relu(x, 0.5),
    ),
    "Clip": (
        'type: "Clip" clip_param { min: -2 max: 1 }',
        lambda x, z: np.where(x > -2, np.where(x < 1, x, 1), -2),
    ),
    "Im2col": ('type: "Im2col" convolution_param { kernel_size: 2 }', lambda x, z: columns(x)),
    "Threshold": ('type: "Threshold"', lambda x, z: (x > 0).astype(np.float32)),
    "AbsVal": ('type: "AbsVal"', lambda x, z: np.abs(x)),
    "Power 0": ('type: "Power" power_param { power: 0 }', lambda x, z: np.ones_like(x)),
    "LRN": ('type: "LRN" lrn_param { local_size: 3 k: 2 }', lambda x, z: lrn(x)),
}


def lrn(x: Array) -> Array:
    """Caffe keeps a running sum: what is not finite stays in it when it leaves the window."""
    squares = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0))) / np.float32(3)
    scale = np.empty_like(x)
    scale[:, 0] = 2 + squares[:, 0] + squares[:, 1] + squares[:, 2]
    for c in range(1, 3):
        scale[:, c] = scale[:, c - 1] + squares[:, c + 2] - squares[:, c - 1]
    return x * scale ** np.float32(-0.75)


@pytest.mark.parametrize("blob", ["a", "b", "c"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_layer_takes_them_as_caffe_does(name: str, blob: str) -> None:
    layer, oracle = CASES[name]
    text = f'{NET} layer {{ name: "y" bottom: "{blob}" top: "y" {layer} }}'
    feed, graph = inputs(), caffe2torch.read(prototxt=text.encode())
    with torch.no_grad():
        blobs = to_torch(graph).blobs({k: torch.from_numpy(v) for k, v in feed.items()})
    made = {key: value.numpy() for key, value in blobs.items()}
    if name in ("MAX pooling", "Im2col"):
        assert not np.isfinite(made[blob]).all()
    expected = oracle(made[blob].copy(), feed["z"])
    np.testing.assert_allclose(made["y"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        run_onnx(complete(to_onnx(graph)), feed)["y"], expected, rtol=1e-5, atol=1e-6
    )


def test_emitted_source_does_the_same(tmp_path: Path) -> None:
    feed = inputs()
    for name, (layer, _) in CASES.items():
        text = f'{NET} layer {{ name: "y" bottom: "c" top: "y" {layer} }}'
        graph = caffe2torch.read(prototxt=text.encode())
        module, target = to_torch(graph), tmp_path / f"{name.replace(' ', '_').lower()}.py"
        write_graph(graph, target)
        emitted = runpy.run_path(str(target))["load"](target.with_suffix(".weights.pt"))
        with torch.no_grad():
            expected = module({k: torch.from_numpy(v) for k, v in feed.items()})
            result = emitted(*(torch.from_numpy(feed[i.name]) for i in graph.inputs))
        if isinstance(expected, dict):
            expected, result = expected["y"], result["y"]
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True, msg=name)


def test_a_net_that_makes_none_is_as_plain_as_before() -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 6 } } }
    layer { name: "r" type: "ReLU" bottom: "x" top: "r" }
    layer { name: "max" type: "Pooling" bottom: "r" top: "max" pooling_param { kernel_size: 2 } }
    """
    graph = caffe2torch.read(prototxt=text.encode())
    assert [node.op_type for node in to_onnx(graph).skeleton.graph.node] == ["Relu", "MaxPool"]
    assert isinstance(to_torch(graph).get_submodule("max"), torch.nn.MaxPool2d)
