from __future__ import annotations

import pytest

from caffe2torch.graph import Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import BlobSource, State
from caffe2torch.pipeline import build_graph

READERS = """
  layer { name: "p" type: "ROIPooling" bottom: "x" bottom: "rois" top: "p"
    roi_pooling_param { pooled_h: 2 pooled_w: 3 } }
  layer { name: "s" type: "Split" bottom: "t" top: "a" top: "b" }
"""


def graph(layer: str) -> Graph:
    """A net that reads regions and targets of a layer that draws them."""
    net = parse_prototxt(
        f"""
        layer {{ name: "i" type: "Input" top: "x" top: "proposals" top: "gt" input_param {{
          shape {{ dim: 1 dim: 2 dim: 5 dim: 7 }} shape {{ dim: 3 dim: 5 }}
          shape {{ dim: 3 dim: 7 }} }} }}
        layer {{ name: "draw" bottom: "proposals" bottom: "gt" {layer} }} {READERS}
        """
    )
    return build_graph(net, BlobSource(), State("TRAIN"))


@pytest.mark.parametrize(
    ("fields", "batch", "targets"),
    [
        ("batch_size: 64 cls_num: 3", 64, 12),
        ("batch_size: 64 cls_num: 3 } bbox_reg_param { cls_aware: false", 64, 8),
        ("batch_size: -1 cls_num: 2 iou_weighted: true", 1, 8),
    ],
)
def test_what_it_draws_is_an_input(fields, batch, targets):
    found = graph(
        'type: "ProposalTarget" top: "rois" top: "labels" top: "t" top: "in" top: "out"'
        f' top: "gt_boxes" proposal_target_param {{ {fields} }}'
    )
    shapes = {i.name: i.shape for i in found.inputs}
    assert shapes["rois"] == (batch, 5, 1, 1)
    assert shapes["t"] == (batch, targets, 1, 1)
    assert any("ProposalTarget" in warning for warning in found.warnings)
