"""Gradients of a net that trains: of several passes, and where Caffe finds overwritten data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import caffe2torch.pycaffe as caffe
from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import State
from caffe2torch.training.fed import FedNet
from caffe2torch.training.net import open_net

SCALED = """
    layer {{ name: "d" type: "DummyData" top: "x" top: "t" dummy_data_param {{
      shape {{ dim: {batch} dim: 3 dim: 2 dim: 2 }}
      data_filler {{ type: "constant" value: 2 }} data_filler {{ type: "constant" value: 0 }} }} }}
    layer {{ name: "s" type: "Scale" bottom: "x" top: "y" scale_param {{
      {axes} bias_term: true filler {{ type: "constant" value: 3 }} }} }}
    layer {{ name: "p" type: "Parameter" top: "p"
      parameter_param {{ shape {{ dim: {batch} dim: 3 dim: 2 dim: 2 }} }} }}
    layer {{ name: "e" type: "Eltwise" bottom: "y" bottom: "p" top: "e" }}
    layer {{ name: "r" type: "Reduction" bottom: "e" top: "r" loss_weight: 1 }}
"""


@pytest.mark.parametrize(
    ("batch", "axes", "adds"),
    [
        (2, "", True),
        (1, "", False),
        (2, "axis: 0 num_axes: 2", False),
        (1, "axis: 0 num_axes: 1", True),
        (1, "axis: 0 num_axes: -1", False),
        (2, "num_axes: 0", True),
    ],
)
def test_what_two_passes_leave(batch: int, axes: str, adds: bool, tmp_path: Path) -> None:
    """A Scale with nothing before its axes, and a Parameter, keep the last pass's gradient."""
    text = SCALED.format(batch=batch, axes=axes)
    net = FedNet(open_net(parse_prototxt(text, "net"), State("TRAIN")), torch.device("cpu"))
    (tmp_path / "net.prototxt").write_text(text)
    theirs = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    once: list[np.ndarray] = []
    for number in (1, 2):
        net.forward_backward()
        theirs.forward()
        theirs.backward()
        scale, bias, parameter = (blob.tensors[0].grad.numpy().copy() for blob in net.net.learned)
        once = once or [scale, bias, parameter]
        np.testing.assert_array_equal(scale, once[0] * (number if adds else 1))
        np.testing.assert_array_equal(bias, once[1] * number)
        np.testing.assert_array_equal(parameter, once[2])
        np.testing.assert_array_equal(theirs.params["s"][0].diff, scale)
        np.testing.assert_array_equal(theirs.params["s"][1].diff, bias)
        np.testing.assert_array_equal(theirs.params["p"][0].diff, parameter)
    net.clear_gradients()
    net.forward_backward()
    np.testing.assert_array_equal(net.net.learned[0].tensors[0].grad, once[0])


def test_a_shared_scale_of_which_one_gradient_is_lost_is_refused() -> None:
    text = """layer { name: "d" type: "Input" top: "x" input_param { shape { dim: N dim: 3 } } }
        layer { name: "a" type: "Scale" bottom: "x" top: "a" param { name: "s" } }
        layer { name: "b" type: "Scale" bottom: "a" top: "b" param { name: "s" } }
        layer { name: "r" type: "Reduction" bottom: "b" top: "r" loss_weight: 1 }"""
    open_net(parse_prototxt(text.replace("N", "2"), "net"), State("TRAIN"))
    with pytest.raises(UnsupportedLayerError, match="over that of the other layers"):
        open_net(parse_prototxt(text.replace("N", "1"), "net"), State("TRAIN"))


def test_a_relu_under_a_batch_norm_in_place_lets_its_outputs_sign_decide() -> None:
    """The weights learn from gradients that pass where BatchNorm's output is above 0."""
    text = """
        layer { name: "d" type: "DummyData" top: "x" top: "t" dummy_data_param {
          shape { dim: 7 dim: 3 } shape { dim: 7 dim: 2 }
          data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {
          num_output: 2 weight_filler { type: "gaussian" } } }
        layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
        layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
        layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }"""
    net = FedNet(open_net(parse_prototxt(text, "net"), State("TRAIN"), seed=4), torch.device("cpu"))
    fed = {name: value.double() for name, value in net.inputs().items()}
    net.seek(0)
    net.forward_backward()
    weight = net.net.learned[0].tensors[0]
    x, target, before = fed["x"], fed["t"], weight.detach().double()
    hidden = torch.relu(x @ before.T)
    deviation = (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    y = (hidden - hidden.mean(0)) / deviation
    diff = (y - target) / len(x)
    diff = (diff - diff.mean(0) - y * (diff * y).mean(0)) / deviation
    expected = (diff * (y > 0)).T @ x
    assert bool(((y > 0) != (hidden > 0)).any())
    np.testing.assert_allclose(weight.grad, expected, rtol=1e-4, atol=1e-6)
