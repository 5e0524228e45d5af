from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.pipeline import build_graph


def layer(fields: str) -> str:
    return f'type: "ContinuationIndicator" continuation_indicator_param {{ {fields} }}'


def test_the_first_step_is_0() -> None:
    expected = np.ones((5, 3))
    expected[0] = 0
    check_layer(layer("time_step: 5 batch_size: 3"), [], [expected], rtol_peak=0)


def test_a_bottom_gives_the_number_of_streams() -> None:
    for axis, streams in ((0, 2), (1, 3), (-1, 7)):
        expected = np.ones((5, streams))
        expected[0] = 0
        check_layer(
            layer(f"time_step: 5 axis: {axis}"), [np.ones((2, 3, 7))], [expected], rtol_peak=0
        )
    assert "axis 3 is out of range" in str(layer_error(layer("time_step: 5 axis: 3"), [(2, 3, 7)]))


def test_both_sizes_are_needed() -> None:
    assert "batch_size: must be positive" in str(layer_error(layer("time_step: 5"), []))


def test_a_known_top_can_be_asked_for_beside_what_reads_it() -> None:
    net = parse_prototxt(
        'input: "x" input_shape { dim: [2, 3, 7] }'
        'layer { name: "i" type: "ContinuationIndicator" bottom: "x" top: "i" '
        "continuation_indicator_param { time_step: 2 axis: 1 } }"
        'layer { name: "p" type: "Power" bottom: "i" top: "p" }'
    )
    model = complete(to_onnx(build_graph(net)))
    assert "i" in {name for node in model.graph.node for name in node.output}
