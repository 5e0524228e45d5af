"""The advice in an error works when it is followed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from caffe2torch.cli import main
from caffe2torch.io.schema import message_class

LENET = """
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1"
  convolution_param { num_output: 2 kernel_size: 5 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "p1" top: "fc"
  inner_product_param { num_output: 4 } }
"""
LENET_BLOBS = {"c1": [(2, 1, 5, 5), (2,)], "fc": [(4, 2 * 12 * 12), (4,)]}
DATA = 'layer { name: "d" type: "Data" top: "x" top: "label" }'


def files(folder: Path, net: str, blobs: dict[str, list[tuple[int, ...]]]) -> list[str]:
    """A net and its weights as the arguments of a command."""
    weights, rng = message_class("NetParameter")(), np.random.default_rng(1)
    for name, shapes in blobs.items():
        layer = weights.layer.add(name=name, type="Convolution", bottom=["a"], top=["b"])
        for shape in shapes:
            blob = layer.blobs.add()
            blob.shape.dim[:] = shape
            blob.data.extend(rng.standard_normal(shape).ravel().tolist())
    (folder / "n.caffemodel").write_bytes(weights.SerializeToString())
    (folder / "n.prototxt").write_text(net)
    return ["inspect", str(folder / "n.caffemodel"), "--prototxt", str(folder / "n.prototxt")]


pytestmark = pytest.mark.filterwarnings("default")


def run(*words: str) -> tuple[int, str]:
    result: Any = CliRunner().invoke(main, list(words))
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("head", "net", "blobs", "shape"),
    [
        (DATA, LENET, LENET_BLOBS, "x=1,1,28,28"),
        ('input: "x"', LENET, LENET_BLOBS, "x=1,1,28,28"),
        ('layer { name: "i" type: "Input" top: "x" }', LENET, LENET_BLOBS, "x=1,1,28,28"),
        (
            'input: "x" layer { name: "s" type: "Power" bottom: "x" top: "s" }',
            LENET.replace('"x"', '"s"').replace("num_output: 2", "num_output: 6 group: 3"),
            {"c1": [(6, 2, 5, 5), (6,)], "fc": [(4, 6 * 9 * 9), (4,)]},
            "x=1,6,21,21",
        ),
        (
            'input: "x"',
            'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" '
            "inner_product_param { num_output: 4 bias_term: false } }",
            {"fc": [(4, 7)]},
            "x=1,7",
        ),
    ],
)
def test_the_suggested_shape_fits_the_weights(
    tmp_path: Path, head: str, net: str, blobs: dict[str, list[tuple[int, ...]]], shape: str
) -> None:
    words = files(tmp_path, head + net, blobs)
    code, output = run(*words)
    assert code == 2
    found = re.search(r"--input-shape (\S+?)\)", output)
    assert found is not None
    assert found[1] == shape
    code, output = run(*words, "--input-shape", shape)
    assert code == 0, output


def test_letters_stand_for_what_may_be_chosen(tmp_path: Path) -> None:
    net = LENET.partition('layer { name: "fc"')[0]
    words = files(tmp_path, DATA + net, {"c1": LENET_BLOBS["c1"]})
    assert "--input-shape x=1,1,H,W)" in run(*words)[1]
    assert run(*words, "--input-shape", "x=1,1,30,19")[0] == 0


@pytest.mark.parametrize(
    ("kernel", "letters", "shape"),
    [((4,), "x=1,2,W", "x=1,2,9"), ((4, 3, 2), "x=1,2,D,H,W", "x=1,2,5,6,7")],
)
def test_as_many_letters_are_there_as_axes(
    tmp_path: Path, kernel: tuple[int, ...], letters: str, shape: str
) -> None:
    sizes = " ".join(f"kernel_size: {size}" for size in kernel)
    net = (
        'input: "x" layer { name: "c" type: "Convolution" bottom: "x" top: "y" '
        f"convolution_param {{ num_output: 3 bias_term: false {sizes} }} }}"
    )
    words = files(tmp_path, net, {"c": [(3, 2, *kernel)]})
    code, output = run(*words)
    assert code == 2
    assert f"--input-shape {letters})" in output
    code, output = run(*words, "--input-shape", shape)
    assert code == 0, output


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"CONVOLUTION"', "Convolution"),
        ('"SOFTMAX_LOSS"', "SoftmaxWithLoss"),
        ('"Convolutoin"', "Convolution"),
        ('"innerproduct"', "InnerProduct"),
        ('"Relu"', "ReLU"),
    ],
)
def test_a_type_in_other_words_is_suggested(tmp_path: Path, written: str, meant: str) -> None:
    layer = f'layer {{ name: "l" type: {written} bottom: "x" top: "y" }}'
    words = files(tmp_path, 'input: "x" input_shape { dim: 2 dim: 3 } ' + layer, {"z": [(1,)]})
    assert f"did you mean {meant!r}?" in run(*words)[1]


def test_no_type_is_suggested_where_none_is_near(tmp_path: Path) -> None:
    layer = 'layer { name: "l" type: "Foveation" bottom: "x" top: "y" }'
    words = files(tmp_path, 'input: "x" input_shape { dim: 2 } ' + layer, {"z": [(1,)]})
    assert "layer type 'Foveation' is not supported. `caffe2torch layers`" in run(*words)[1]


def test_a_type_without_quotes(tmp_path: Path) -> None:
    words = files(tmp_path, LENET.replace('"Pooling"', "POOLING"), LENET_BLOBS)
    output = run(*words)[1]
    assert 'n.prototxt:4:26: POOLING is not in quotes; a type is written as type: "Conv' in output


def test_weights_without_connections_need_their_net(tmp_path: Path) -> None:
    words = files(tmp_path, 'input: "x" input_shape { dim: 1 dim: 1 dim: 28 dim: 28 }' + LENET, {})
    weights = message_class("NetParameter")()
    for name, shapes in LENET_BLOBS.items():
        layer = weights.layer.add(name=name, type="Convolution")
        for shape in shapes:
            blob = layer.blobs.add(data=[0.0] * int(np.prod(shape)))
            blob.shape.dim[:] = shape
    Path(words[1]).write_bytes(weights.SerializeToString())
    code, output = run("inspect", words[1])
    assert code == 2
    assert "does not say how their layers are connected: give the prototxt" in output
    assert run(*words)[0] == 0


def test_layers_of_one_name_are_told_to_be_renamed(tmp_path: Path) -> None:
    net = 'input: "x" input_shape { dim: 1 dim: 1 dim: 28 dim: 28 }' + LENET
    for blobs in ({"c1": LENET_BLOBS["fc"]}, {"c1": LENET_BLOBS["c1"]}):
        words = files(tmp_path, net.replace('name: "fc"', 'name: "c1"'), blobs)
        code, output = run(*words)
        assert code == 2
        assert "give each layer a name of its own" in output
    assert run(*files(tmp_path, net, LENET_BLOBS))[0] == 0


@pytest.mark.parametrize(
    ("blobs", "option"),
    [
        ({"c1": LENET_BLOBS["c1"]}, "--allow-missing"),
        ({**LENET_BLOBS, "more": [(3,)]}, "--strict"),
    ],
)
def test_weights_that_are_missing_or_left_over(
    tmp_path: Path, blobs: dict[str, list[tuple[int, ...]]], option: str
) -> None:
    net = 'input: "x" input_shape { dim: 1 dim: 1 dim: 28 dim: 28 }' + LENET
    words = files(tmp_path, net, blobs)
    right, wrong = ([], [option]) if option == "--strict" else ([option], [])
    code, output = run(*words, *wrong)
    assert code == 2
    assert option in output
    assert run(*words, *right)[0] == 0
