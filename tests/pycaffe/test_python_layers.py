"""Layers that a user's class computes: in nets, in training, and never outside of programs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pycaffe_nets import made

import caffe2torch
import caffe2torch.pycaffe as caffe
from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import message_class
from caffe2torch.passes.draft import State
from caffe2torch.pycaffe.layer import python_layers
from caffe2torch.training.net import open_net

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


class Gain(caffe.Layer):
    """Multiplies each column by a learned gain."""

    def setup(self, bottom: Any, top: Any) -> None:
        self.blobs.add_blob(3)
        self.blobs[0].data[...] = [1, 2, 3]
        self.seen: list[Any] = []

    def reshape(self, bottom: Any, top: Any) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Any, top: Any) -> None:
        top[0].data[...] = bottom[0].data * self.blobs[0].data

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        self.seen.append(list(propagate_down))
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data


class Squash(caffe.Layer):
    """The hyperbolic tangent, whose backward reads the top, and its learned factor the bottom."""

    def setup(self, bottom: Any, top: Any) -> None:
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 1.5

    def reshape(self, bottom: Any, top: Any) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Any, top: Any) -> None:
        top[0].data[...] = np.tanh(self.blobs[0].data * bottom[0].data)

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        slope = top[0].diff * (1 - top[0].data ** 2)
        self.blobs[0].diff[...] += (slope * bottom[0].data).sum()
        bottom[0].diff[...] = slope * self.blobs[0].data


class Doubler(caffe.Layer):
    """Twice its bottom, which may be its top; as often as param_str says."""

    def __init__(self, param: Any) -> None:
        super().__init__(param)
        self.made_with = self.param_str

    def setup(self, bottom: Any, top: Any) -> None:
        self.times = int(self.param_str or 1)

    def reshape(self, bottom: Any, top: Any) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Any, top: Any) -> None:
        top[0].data[...] = bottom[0].data * 2**self.times

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff[...] = top[0].diff * 2**self.times


class Growing(caffe.Layer):
    """One row more at each pass, which it says in forward."""

    def setup(self, bottom: Any, top: Any) -> None:
        self.rows = 0

    def reshape(self, bottom: Any, top: Any) -> None:
        top[0].reshape(1, 3)

    def forward(self, bottom: Any, top: Any) -> None:
        self.rows += 1
        top[0].reshape(self.rows, 3)
        top[0].data[...] = self.rows


class WithoutReshape(caffe.Layer):
    def setup(self, bottom: Any, top: Any) -> None:
        pass


class NoLayer:
    pass


class Failing(caffe.Layer):
    def setup(self, bottom: Any, top: Any) -> None:
        raise KeyError("own reason")

    def reshape(self, bottom: Any, top: Any) -> None:
        pass


def python(name: str, cls: str, bottom: str, top: str, param: str = "", more: str = "") -> str:
    bottoms = f'bottom: "{bottom}"' if bottom else ""
    return (
        f'layer {{ name: "{name}" type: "Python" {bottoms} top: "{top}" {more} python_param '
        f'{{ module: "own_layers" layer: "{cls}" param_str: "{param}" }} }}\n'
    )


@pytest.fixture(autouse=True)
def own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_layers")
    vars(module).update({k: v for k, v in globals().items() if isinstance(v, type)})
    monkeypatch.setitem(sys.modules, "own_layers", module)


def test_the_very_object_computes_with_blobs_of_its_own(tmp_path: Path) -> None:
    net = made(tmp_path, "force_backward: true\n" + INPUT + python("g", "Gain", "x", "y"))
    layer = net.layers[1]
    assert isinstance(layer, Gain)
    assert net.layers[1] is layer
    assert (layer.type, layer.phase, layer.param_str) == ("Python", 1, "")
    assert net.params["g"][0].data.tolist() == [1, 2, 3]
    net.params["g"][0].data[...] = [1, 10, 100]
    x = np.arange(6).reshape(2, 3)
    assert (net.forward(x=x)["y"] == x * [1, 10, 100]).all()
    assert (net.backward(y=np.ones((2, 3)))["x"] == [1, 10, 100]).all()
    assert net.params["g"][0].diff.tolist() == [3, 5, 7]
    assert layer.seen == [[True]]
    net.save(str(tmp_path / "w.caffemodel"))
    again = caffe.Net(str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel"), caffe.TEST)
    assert again.params["g"][0].data.tolist() == [1, 10, 100]
    again.share_with(net)
    net.params["g"][0].data[...] = 5
    assert again.forward(x=x)["y"].sum() == 75


def test_in_place_own_constructor_and_param_str(tmp_path: Path) -> None:
    net = made(tmp_path, INPUT + python("d", "Doubler", "x", "x", "3"))
    assert net.layers[1].made_with == "3"
    assert (net.forward(x=np.ones((2, 3)))["x"] == 8).all()


def test_learned_blobs_of_one_name_are_the_same_memory(tmp_path: Path) -> None:
    """Values and gradients, as genuine Caffe shares them between Python layers."""
    shared = 'param { name: "gain" }'
    layers = python("a", "Gain", "x", "a", more=shared) + python("b", "Gain", "a", "b", more=shared)
    net = made(tmp_path, "force_backward: true\n" + INPUT + layers)
    net.params["a"][0].data[...] = 7
    assert (net.params["b"][0].data == 7).all()
    net.blobs["x"].data[...] = 1
    net.blobs["b"].diff[...] = 1
    assert (net.forward()["b"] == 49).all()
    net.backward()
    assert (net.params["b"][0].diff == 2 * (7 + 7)).all()
    assert (net.params["a"][0].diff == net.params["b"][0].diff).all()


def test_a_top_reshaped_in_forward_is_followed_above(tmp_path: Path) -> None:
    text = python("g", "Growing", "", "x") + (
        'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }'
    )
    net = made(tmp_path, text)
    assert net.inputs == []
    for rows in (1, 2, 3):
        assert net.forward()["y"].tolist() == [[2 * rows] * 3] * rows


def test_a_net_trains_through_python_layers(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 2 '
        "dim: 3 } data_filler { value: 2 } data_filler { value: 6 } } }\n"
        + python("g", "Gain", "x", "y")
        + 'layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }'
    )
    solver = tmp_path / "solver.prototxt"
    solver.write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 40 '
        f'snapshot_prefix: "{tmp_path}/s"'
    )
    made = caffe.get_solver(str(solver))
    made.solve()
    assert np.allclose(made.net.params["g"][0].data, 3, atol=1e-3)
    assert (tmp_path / "s_iter_40.caffemodel").exists()


FAULTS: list[tuple[str, type[Exception], str]] = [
    (python("p", "Absent", "x", "y"), AttributeError, "no class 'Absent'"),
    (python("p", "NoLayer", "x", "y"), TypeError, r"no subclass of caffe\.Layer"),
    (python("p", "WithoutReshape", "x", "y"), RuntimeError, r"does not define reshape"),
    (python("p", "Failing", "x", "y"), KeyError, "own reason"),
    (python("p", "Gain", "x", "y").replace("own_layers", "not_there"), ImportError, "PYTHONPATH"),
    (
        python("p", "ProposalTargetLayer", "x", "y").replace(
            "own_layers", "rpn.proposal_target_layer"
        ),
        ImportError,
        r"no module 'rpn\.proposal_target_layer'",
    ),
]


@pytest.mark.parametrize(("text", "error", "reason"), FAULTS)
def test_faults_say_what_is_wrong(
    tmp_path: Path, text: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        made(tmp_path, INPUT + text)


def test_an_exception_in_a_pass_comes_out_unchanged(tmp_path: Path) -> None:
    net = made(tmp_path, "force_backward: true\n" + python("g", "Growing", "", "x"))
    net.forward()
    with pytest.raises(AttributeError, match="backward"):
        net.backward()
    net.layers[0].rows = "none"
    with pytest.raises(TypeError):
        net.forward()


def test_conversion_never_runs_them(tmp_path: Path) -> None:
    net = made(tmp_path, INPUT + python("d", "Doubler", "x", "y"))
    assert net.forward()
    with pytest.raises(UnsupportedLayerError, match=r"own_layers\.Doubler"):
        caffe2torch.read(None, tmp_path / "net.prototxt")


@pytest.mark.parametrize(
    "layers",
    [
        python("d", "Doubler", "x", "x") + python("g", "Gain", "x", "y"),
        python("g", "Squash", "x", "y") + python("d", "Doubler", "y", "y"),
        python("s", "Gain", "x", "a")
        + python("g", "Squash", "a", "a")
        + 'layer { name: "d" type: "Sigmoid" bottom: "a" top: "a" } '
        + python("e", "Doubler", "a", "y"),
    ],
)
def test_autograd_goes_through_them_as_backward_does(tmp_path: Path, layers: str) -> None:
    net = made(tmp_path, "force_backward: true\n" + INPUT + layers)
    rng = np.random.RandomState(4)
    x, dy = rng.randn(2, 3).astype(np.float32), rng.randn(2, 3).astype(np.float32)
    net.forward(x=x)
    dx = net.backward(y=dy)["x"]
    definition = read_prototxt(tmp_path / "net.prototxt")
    with python_layers():
        module = open_net(definition, State()).module
    tensor = torch.from_numpy(x).requires_grad_()
    y = module(tensor)
    y.backward(torch.from_numpy(dy))
    assert np.allclose(y.detach(), net.blobs["y"].data)
    assert tensor.grad is not None
    assert np.allclose(tensor.grad, dx)
    assert np.allclose(module.get_submodule("g").blob0.grad, net.params["g"][0].diff)


SLOPE = """
import caffe

class Slope(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 0.5

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum()
"""


def test_train_runs_them_where_it_is_told_to(tmp_path: Path) -> None:
    for name in ("own", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / "slopes.py").write_text(SLOPE)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 2 '
        "dim: 3 } data_filler { value: 2 } data_filler { value: 6 } } }\n"
        'layer { name: "s" type: "Python" bottom: "x" top: "y" python_param { module: "slopes" '
        'layer: "Slope" } }\n'
        'layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }'
    )
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" max_iter: 3 display: 1 '
        'snapshot_prefix: "s"'
    )
    command = [sys.executable, "-m", "caffe2torch", "train", "--solver", "solver.prototxt"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(2) as pool:
        plain, lost, trained = pool.map(
            lambda options: run(*options),
            ([], ["--python-layers", "empty"], ["--python-layers", "own"]),
        )
    assert plain.returncode == 2
    assert "slopes.Slope" in plain.stderr
    assert lost.returncode == 2
    assert "there is no module 'slopes'" in lost.stderr
    assert len(lost.stderr.strip().splitlines()) == 1
    assert trained.returncode == 0, trained.stderr
    assert "l = 37.5" in trained.stderr  # 6 of (2 * 0.5 - 6) ** 2 over 2 * 2.
    message = message_class("NetParameter").FromString(
        (tmp_path / "s_iter_3.caffemodel").read_bytes()
    )
    (blob,) = next(layer for layer in message.layer if layer.name == "s").blobs
    slope = 0.5
    for _ in range(3):
        slope -= 0.05 * 3 * 2 * (2 * slope - 6)
    assert blob.data[0] == pytest.approx(slope, rel=1e-5)
