"""Net.backward against genuine Caffe's, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycaffe_nets import filled, made
from support import OF_LAYER, assert_close, genuine

import caffe2torch.pycaffe as caffe

CANCELLED = 4e-6
"""Absolute: what roundings leave of some hundred terms near 1 whose sum is 0."""


def test_the_corpus_of_gradients() -> None:
    folders = sorted(path.parent for path in genuine("SHARED", "gradients").glob("*/grad.npz"))
    assert len(folders) > 60
    wrong = {folder.name: found for folder in folders if (found := _differences(folder))}
    assert not wrong


def _differences(folder: Path) -> list[str]:
    """What is not as in Caffe: outputs, gradients of the inputs, gradients of learned blobs."""
    case = json.loads((folder / "case.json").read_text())
    phase = getattr(caffe, case["phase"])
    net = caffe.Net(str(folder / "net.prototxt"), phase)
    if (folder / "net.caffemodel").exists():
        net.copy_from(str(folder / "net.caffemodel"))
    found = []
    with np.load(folder / "grad.npz") as file:
        expected = dict(file)
    net.forward(**{k[3:]: v for k, v in expected.items() if k.startswith("in/")})
    for name, value in expected.items():
        if name.startswith("topdiff/"):
            net.blobs[name[8:]].diff[...] = value
    net.backward()
    for name, value in expected.items():
        kind, rest = name.split("/", 1)
        if kind == "out":
            actual = net.blobs[rest].data
        elif kind == "dbottom":
            actual = net.blobs[rest].diff
        elif kind == "dblob":
            layer, index = rest.rsplit("/", 1)
            actual = net.params[layer][int(index)].diff
        else:
            continue
        try:
            assert_close(actual, value, OF_LAYER, absolute=CANCELLED, what=name)
        except AssertionError as error:
            found.append(str(error))
    return found


def test_a_layer_that_does_not_learn_leaves_a_shared_blob_to_the_one_that_does(
    tmp_path: Path,
) -> None:
    layer = """
        layer {{ name: "{1}" type: "InnerProduct" bottom: "{0}" top: "{1}" {2}
          inner_product_param {{ num_output: 2 bias_term: false
            weight_filler {{ type: "constant" value: 2 }} }} }}"""
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }"""
    text += layer.format("x", "a", 'param { name: "w" }')
    text += layer.format("a", "b", 'param { name: "w" lr_mult: 0 } loss_weight: 1')
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    net.forward(x=np.array([[3, 5]], np.float32))
    net.backward(b=np.array([[1, 0]], np.float32))
    # Of layer a alone: its top's diff, (2, 2), times its bottom.
    np.testing.assert_array_equal(net.params["a"][0].diff, [[6, 10], [6, 10]])


LOSS = """
    layer { name: "x" type: "Input" top: "x" top: "y"
      input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "n" }
    layer { name: "r" type: "TanH" bottom: "n" top: "r" }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "r" bottom: "y" top: "l" }
"""


def test_statistics_that_state_no_rate_ask_for_gradients_as_in_caffe(tmp_path: Path) -> None:
    for stated, has_diff in (("", True), ("param { lr_mult: 0 } " * 3, False)):
        text = LOSS.replace('top: "n"', f'top: "n" {stated}')
        (tmp_path / "net.prototxt").write_text(text)
        net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
        net.forward(x=np.array([[1, 2, 3], [4, 0, 9]]), y=np.array([0, 1]))
        net.backward()
        assert net.blobs["n"].diff.any() == has_diff


def test_labels_have_no_gradient(tmp_path: Path) -> None:
    labels = 'layer { name: "s" type: "Power" bottom: "y" top: "z" } layer { name: "l"'
    for changed in (
        LOSS.replace('bottom: "y"', 'bottom: "y" propagate_down: true propagate_down: true'),
        "force_backward: true"
        + LOSS.replace('layer { name: "l"', labels).replace('bottom: "y" top: "l"', 'bottom: "z"'),
    ):
        (tmp_path / "net.prototxt").write_text(changed)
        net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
        net.forward()
        if "force" in changed:
            net.backward()  # The loss leaves its labels out.
        else:
            with pytest.raises(RuntimeError, match="a gradient of bottom 1, 'y', is asked for"):
                net.backward()


def test_batch_norm_and_lstm_leave_a_diff_in_an_input_that_needs_none(tmp_path: Path) -> None:
    """Their Backward asks for no propagate_down, where that of InnerProduct does."""
    text = """
    layer { name: "in" type: "Input" top: "x" top: "c" input_param {
      shape { dim: 4 dim: 3 dim: 5 } shape { dim: 4 dim: 3 } } }
    layer { name: "l" TYPE top: "y" }
    layer { name: "ip" type: "InnerProduct" bottom: "y" top: "ip" inner_product_param {
      num_output: 2 weight_filler { type: "xavier" } } }
    layer { name: "e" type: "Reduction" bottom: "ip" top: "e" loss_weight: 1 }
    """
    filler = 'weight_filler { type: "gaussian" }'
    found = {}
    for kind, fields in {
        "BatchNorm": 'bottom: "x"',
        "LSTM": f'bottom: "x" bottom: "c" recurrent_param {{ num_output: 2 {filler} }}',
        "InnerProduct": f'bottom: "x" inner_product_param {{ num_output: 2 {filler} }}',
    }.items():
        net = filled(made(tmp_path, text.replace("TYPE", f'type: "{kind}" {fields}'), caffe.TRAIN))
        net.forward()
        net.backward()
        found[kind] = bool(net.blobs["x"].diff.any())
    assert found == {"BatchNorm": True, "LSTM": True, "InnerProduct": False}
