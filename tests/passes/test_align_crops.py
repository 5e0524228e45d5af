"""Crop without crop_param: BVLC's offset 0 with a warning, or the forks' alignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import genuine

import caffe2torch
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import Options
from caffe2torch.pipeline import build_graph

INPUT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: %d dim: %d } } }
"""


def layer(kind: str, bottoms: str, top: str, more: str = "") -> str:
    ends = "".join(f' bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{top}" type: "{kind}"{ends} top: "{top}" {more} }}'


def window(*, kernel: int, pad: int = 0, stride: int = 1, more: str = "") -> str:
    return (
        "convolution_param { num_output: 1 bias_term: false weight_filler { value: 1 } "
        f"kernel_size: {kernel} pad: {pad} stride: {stride} {more} }}"
    )


def graph(*layers: str, sizes: tuple[int, int] = (23, 37), crop: str = "bvlc") -> caffe2torch.Graph:
    net = parse_prototxt("\n".join([INPUT % sizes, *layers]))
    return build_graph(net, options=Options(crop=crop))


def offsets(*layers: str) -> tuple[int, ...]:
    found = graph(*layers, crop="fork").nodes[-1].proto.crop_param.offset
    assert len(found) == 2
    return tuple(found)


CROP = layer("Crop", "a x", "y")


def test_pixels_of_the_common_blob_lie_on_each_other() -> None:
    assert offsets(layer("Convolution", "x", "a", window(kernel=3, pad=35)), CROP) == (34, 34)
    dilated = window(kernel=3, pad=35, more="dilation: 5")
    assert offsets(layer("Convolution", "x", "a", dilated), CROP) == (30, 30)
    uneven = "convolution_param { num_output: 1 kernel_h: 3 kernel_w: 5 pad_h: 7 pad_w: 4 }"
    assert offsets(layer("Convolution", "x", "a", uneven), CROP) == (6, 2)


def test_fcn_32s_is_cropped_by_19() -> None:
    layers, blob = [layer("Convolution", "x", "c", window(kernel=3, pad=100))], "c"
    layers.append(layer("ReLU", "c", "c").replace('name: "c"', 'name: "relu"'))
    pool = "pooling_param { kernel_size: 2 stride: 2 }"
    for level in range(5):
        layers.append(layer("Pooling", blob, f"p{level}", pool))
        blob = f"p{level}"
    layers.append(layer("Convolution", blob, "fc6", window(kernel=7)))
    layers.append(layer("Dropout", "fc6", "drop"))
    layers.append(layer("Deconvolution", "drop", "a", window(kernel=64, stride=32)))
    found = graph(*layers, CROP, sizes=(64, 96), crop="fork")
    assert list(found.nodes[-1].proto.crop_param.offset) == [19, 19]
    assert found.shapes["y"] == (1, 1, 64, 96)


def test_the_common_blob_may_lie_between_and_crops_follow_each_other() -> None:
    before = layer("Convolution", "x", "b", window(kernel=5, stride=2))
    two = layer("Convolution", "b", "a", window(kernel=3, pad=6))
    first = layer("Crop", "a b", "y")
    assert offsets(before, two, first) == (5, 5)
    again = layer("Convolution", "y", "z", window(kernel=1, pad=3))
    assert offsets(before, two, first, again, layer("Crop", "z b", "w")) == (3, 3)


def test_bvlcs_rule_is_offset_0_and_a_warning_names_the_other() -> None:
    layers = (layer("Convolution", "x", "a", window(kernel=3, pad=35)), CROP)
    found = graph(*layers)
    (warning,) = found.warnings
    assert "at (34, 34). If the net is one of theirs, choose their rule (--crop fork" in warning
    assert not found.nodes[-1].proto.HasField("crop_param")


def test_a_crop_that_says_its_offset_keeps_it() -> None:
    convolution = layer("Convolution", "x", "a", window(kernel=3, pad=35))
    told = layer("Crop", "a x", "y", "crop_param { axis: 2 offset: 4 }")
    found = graph(convolution, told, crop="fork")
    assert list(found.nodes[-1].proto.crop_param.offset) == [4]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (layer("Convolution", "x", "a", window(kernel=3, pad=5, stride=2)), "different sizes"),
        (layer("Convolution", "x", "a", window(kernel=4, pad=3)), r"\(3/2, 3/2\)"),
        (layer("Convolution", "x", "a", window(kernel=3)), r"\(-1, -1\)"),
        (layer("Permute", "x", "a", "permute_param { order: 0 order: 1 order: 3 order: 2 }"),
         r"'a' \(Permute\)"),
    ],
)  # fmt: skip
def test_where_the_forks_have_no_offset_the_net_is_refused(made: str, why: str) -> None:
    with pytest.raises(caffe2torch.NetError, match=why):
        graph(made, CROP, crop="fork")


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(caffe2torch.NetError, match="'bvlc', 'fork'"):
        caffe2torch.read(prototxt=b"", crop="hed")


@pytest.mark.filterwarnings("ignore::caffe2torch.Caffe2TorchWarning")  # Without weights.
@pytest.mark.parametrize(
    ("path", "at"), [("hed_crop/net", (3, 5)), ("wild/hed_crop_without_param", (8, 8))]
)
def test_an_impulse_stays_where_it_is(path: str, at: tuple[int, int]) -> None:
    prototxt = genuine("SHARED", "faults", f"{path}.prototxt")
    weights = prototxt.with_suffix(".caffemodel")
    module = caffe2torch.load(
        weights if weights.exists() else None, prototxt, crop="fork", allow_missing=True
    )
    convolution = module.get_submodule("conv1_1")
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0, 1, 1] = 1
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(kernel))  # type: ignore[operator,union-attr]
        x = torch.zeros(module.caffe_graph.inputs[0].shape)
        x[0, 0, at[0], at[1]] = 1
        torch.testing.assert_close(module(x), x)
