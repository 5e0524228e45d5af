"""AutoCrop: the pass that finds its offsets is tested in passes/test_align_crops.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe2torch.errors import NetError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.pipeline import build_graph, restore_graph

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 9 dim: 7 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 1
  kernel_size: 3 pad: 4 bias_term: false } }
layer { name: "y" type: "AutoCrop" bottom: "c" bottom: "x" top: "y" }
"""


def test_pixels_of_both_bottoms_lie_on_each_other() -> None:
    graph = build_graph(parse_prototxt(NET))
    assert graph.warnings == ()
    assert tuple(graph.nodes[-1].proto.crop_param.offset) == (3, 3)
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, 1] = 1
    again = restore_graph(parse_prototxt(graph.definition), {"c.weight": weight}, "TEST")
    x = torch.randn(1, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_torch(again)(x), x)


def test_layers_between_that_give_no_offset_are_refused() -> None:
    text = NET.replace("pad: 4", "pad: 4 stride: 2")
    with pytest.raises(NetError, match=r"no offset for it: .* Give its crop_param\."):
        build_graph(parse_prototxt(text))
