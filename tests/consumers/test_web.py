"""What onnxruntime-web is given: padding that stays apart from the pooling after it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from caffe2torch.consumers import consumer
from caffe2torch.engines.onnxruntime import Session


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ends", [1, 3])
def test_padding_stays_apart_from_pooling(kind: str, ends: int) -> None:
    pads = np.array([0, 0, 0, 0, 0, 0, ends, ends])
    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["x", "pads"], ["padded"]),
            helper.make_node(kind, ["padded"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        "pooled",
        [helper.make_tensor_value_info("x", 1, [2, 1, 3, 5])],
        [helper.make_tensor_value_info("y", 1, [2, 1, None, None])],
        [numpy_helper.from_array(pads, "pads")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = -np.arange(30, dtype=np.float32).reshape(2, 1, 3, 5)
    expected = Session(model.SerializeToString()).run({"x": x})["y"]
    consumer("web").rewrite(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Pad", "Reshape", kind]
    np.testing.assert_array_equal(Session(model.SerializeToString()).run({"x": x})["y"], expected)
