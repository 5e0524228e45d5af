from __future__ import annotations

import pytest
from test_proposal_target import graph

from caffe2torch.errors import NetError

LAYER = """
  type: "Python" top: "rois" top: "labels" top: "t" top: "in" top: "out"
  python_param { module: "rpn.proposal_target_layer" layer: "ProposalTargetLayer"
    param_str: "'num_classes': %s" }
"""


def test_what_it_draws_is_an_input():
    found = graph(LAYER % 21)
    shapes = {i.name: i.shape for i in found.inputs}
    assert (shapes["rois"], shapes["t"]) == ((1, 5), (1, 84))
    assert any("ProposalTargetLayer" in warning for warning in found.warnings)


def test_the_number_of_classes_is_asked_for():
    with pytest.raises(NetError, match="num_classes 'many' is not a number"):
        graph(LAYER % "many")
