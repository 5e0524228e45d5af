from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import BlobSource, Options, State
from caffe2torch.pipeline import build_graph


def layer(fields: str = "") -> str:
    return f'type: "CTCGreedyDecoder" ctc_decoder_param {{ {fields} }}'


def decoded(x: Any, blank: int, merge: bool, going_on: Any = None) -> Any:
    steps, streams, _ = x.shape[:3]
    y = np.full((streams, steps, 1, 1), -1.0)
    for n in range(streams):
        before, words = -1, []
        for t in range(steps):
            if t and going_on is not None and going_on[t, n] == 0:
                break
            best = int(np.argmax(x[t, n].ravel()))
            if best != blank and not (merge and best == before):
                words.append(best)
            before = best
        y[n, : len(words), 0, 0] = words
    return y


@pytest.mark.parametrize(
    ("fields", "blank", "merge"),
    [
        ("", 0, True),
        ("blank_index: 2", 2, True),
        ("blank_index: -1", 3, True),
        ("ctc_merge_repeated: false", 0, False),
    ],
)
@pytest.mark.parametrize("shape", [(11, 3, 4), (1, 2, 4), (9, 1, 4, 1, 1)])
def test_the_sequence_without_repetitions_and_blanks(fields, blank, merge, shape) -> None:
    # Few different scores, so that there are ties and repetitions.
    x = np.random.default_rng(5).integers(0, 3, shape).astype(float)
    check_layer(layer(fields), [x], [decoded(x, blank, merge)], rtol_peak=0)


@pytest.mark.parametrize(("fields", "blank"), [("", 3), ("blank_index: 0", 0)])
@pytest.mark.parametrize("shape", [(11, 3, 4), (1, 2, 4)])
def test_indicators_end_a_sequence(fields, blank, shape) -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(0, 3, shape).astype(float)
    going_on = (rng.random(shape[:2]) < 0.8).astype(float)
    expected = decoded(x, blank, True, going_on)
    check_layer(layer(fields), [x, going_on], [expected], rtol_peak=0)


def test_indicators_that_could_be_labels_are_refused() -> None:
    error = str(layer_error(layer(), [(5, 5, 4), (5, 5)]))
    assert "could be labels or the indicators of 5 steps" in error


def test_refuses_the_accuracy() -> None:
    assert "it computes the accuracy" in str(layer_error(layer(), [(5, 2, 4), (2, 5)]))
    assert "must be (T, N, C)" in str(layer_error(layer(), [(5, 2)]))


def test_the_accuracy_is_left_out_of_a_net() -> None:
    net = parse_prototxt(
        """
        layer { name: "data" type: "Data" top: "data" top: "label"
          data_param { batch_size: 2 } transform_param { crop_size: 4 } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          inner_product_param { num_output: 3 } }
        layer { name: "loss" type: "WarpCTCLoss" bottom: "ip" bottom: "label" top: "loss" }
        layer { name: "acc" type: "CTCGreedyDecoder" bottom: "ip" bottom: "label" top: "acc" }
        """
    )
    options = Options(allow_missing=True, input_shapes={"data": (2, 3, 4, 4)})
    graph = build_graph(net, BlobSource(), State("TEST"), options)
    assert list(graph.outputs) == ["ip"]
