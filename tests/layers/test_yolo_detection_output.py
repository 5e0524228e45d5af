from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from yolo_oracle import Array, best_class, detect

from caffe2torch.errors import NetError

BIASES = [0.57, 0.68, 1.87, 2.06, 3.34, 5.47]
CLASSES = 4


def prototxt(confidence: float = 0.25, boxes: int = 3) -> str:
    values = " ".join(f"biases: {value}" for value in BIASES)
    return (
        f'type: "YoloDetectionOutput" yolo_detection_output_param {{ num_classes: {CLASSES} '
        f"num_box: {boxes} coords: 4 confidence_threshold: {confidence} {values} }}"
    )


def maps(seed: int, images: int = 1, sides: tuple[int, ...] = (5,), channels: int = 5 + CLASSES):
    rng = np.random.default_rng(seed)
    shapes = [(images, 3 * channels, side, side) for side in sides]
    return [2 * rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def expected(inputs: list[Array], confidence: float = 0.25) -> list[Array]:
    anchors = [list(zip(BIASES[::2], BIASES[1::2], strict=True))] * len(inputs)
    wide = [x.astype(np.float64) for x in inputs]
    return [detect(wide, anchors, CLASSES, confidence, 0.45, best_class)]


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("sides", [(5,), (5, 3)])
@pytest.mark.parametrize("channels", [9, 11])
def test_rows_and_their_order(images, sides, channels):
    inputs = maps(0, images, sides, channels)
    (rows,) = expected(inputs)
    assert len({*rows[0, 0, :, 1]}) == CLASSES
    check_layer(prototxt(), inputs, [rows])


def test_a_score_at_the_threshold_is_a_detection():
    inputs = maps(1)
    inputs[0][0, 4::9] = -9
    inputs[0][0, 4:9, 2, 2] = [0, 1, 1, 1, 1]  # 0.5 / 4
    rows = expected(inputs, confidence=0.125)
    assert rows[0].shape == (1, 1, 1, 7)
    assert rows[0][0, 0, 0, 1] == 1
    check_layer(prototxt(confidence=0.125), inputs, rows)


def test_without_detections_there_is_a_row_an_image():
    inputs = maps(3, images=2)
    rows = expected(inputs, confidence=1)
    assert rows[0].shape == (1, 1, 2, 7)
    check_layer(prototxt(confidence=1), inputs, rows)


@pytest.mark.parametrize(
    ("boxes", "shape", "text"),
    [
        (3, (1, 27, 5, 7), "is not square"),
        (3, (1, 26, 5, 5), "should have 3 x (5 + 4) channels"),
        (3, (1, 24, 5, 5), "should have 3 x (5 + 4) channels"),
        (4, (1, 36, 5, 5), "biases: 6 values are given, its boxes need 8"),
    ],
)
def test_refusals(boxes, shape, text):
    error = layer_error(prototxt(boxes=boxes), [shape])
    assert isinstance(error, NetError)
    assert text in str(error)
