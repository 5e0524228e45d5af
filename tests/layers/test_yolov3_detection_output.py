from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from yolo_oracle import Array, detect, every_class

from caffe2torch.errors import NetError, UnsupportedLayerError

BIASES = [20, 37, 49, 94, 73, 201, 143, 265, 153, 121, 280, 279]
MASKS = [[3, 4, 5], [0, 1, 2]]
SCALES = [32, 16]
CLASSES = 4


def prototxt(confidence: float = 0.3, nms: float = 0.45, more: str = "") -> str:
    lists = [("biases", BIASES), ("mask", MASKS[0] + MASKS[1]), ("anchors_scale", SCALES)]
    values = " ".join(f"{name}: {value}" for name, row in lists for value in row)
    return (
        f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ num_classes: {CLASSES} '
        f"confidence_threshold: {confidence} nms_threshold: {nms} {values} {more} }}"
    )


def maps(seed: int, images: int = 1, sides: tuple[tuple[int, int], ...] = ((5, 5), (7, 7))):
    rng = np.random.default_rng(seed)
    shapes = [(images, 3 * (5 + CLASSES), *side) for side in sides]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def expected(inputs: list[Array], confidence: float = 0.3, nms: float = 0.45) -> list[Array]:
    anchors = [
        [(BIASES[2 * m] / scale, BIASES[2 * m + 1] / scale) for m in mask]
        for mask, scale in zip(MASKS, SCALES, strict=True)
    ]
    wide = [x.astype(np.float64) for x in inputs]
    return [detect(wide, anchors, CLASSES, confidence, nms, every_class)]


@pytest.mark.parametrize("nms", [0.2, 0.45, 0.9, 1.5])
@pytest.mark.parametrize("images", [1, 2])
def test_rows_and_their_order(images, nms):
    inputs = maps(0, images)
    (rows,) = expected(inputs, nms=nms)
    assert len({*rows[0, 0, :, 1]}) == CLASSES
    check_layer(prototxt(nms=nms), inputs, [rows])


def test_maps_that_are_not_square():
    inputs = maps(1, sides=((3, 5), (6, 7)))
    check_layer(prototxt(), inputs, expected(inputs))


def test_a_threshold_that_forks_set_otherwise_is_asked_for():
    text = prototxt().replace("nms_threshold: 0.45", "")
    error = layer_error(text, [x.shape for x in maps(0)])
    assert "without it forks take 0.45 (eric612's) or 0.4 (yuqj1991's)" in str(error)


def test_a_box_loses_its_own_other_classes():
    inputs = maps(2)
    for x in inputs:
        x[:, 4::9] = -9
    inputs[0][0, 4, 2, 2] = 9
    inputs[0][0, 5:9, 2, 2] = [1, 3, 2, 4]
    (rows,) = expected(inputs)
    assert rows.shape == (1, 1, 1, 7)
    assert rows[0, 0, 0, 1] == 4
    check_layer(prototxt(), inputs, [rows])


@pytest.mark.parametrize("images", [1, 3])
def test_without_detections_there_is_a_row_an_image(images):
    inputs = maps(3, images)
    rows = expected(inputs, confidence=0.999)
    assert rows[0].shape == (1, 1, images, 7)
    fixed = images == 1  # Three have more boxes than a form of fixed rows compares.
    check_layer(prototxt(confidence=0.999), inputs, rows, fixed_rows=fixed)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("mask_group_num: 3", "3, but 2 bottoms"),
        ("num_box: 4", "mask: 6 values are given, its boxes need 7"),
        ("mask: 8 mask: 9", "biases: 12 values are given, its masks need 18"),
        ("gaussian_box: true", "that fork's CPU code is undefined for it"),
    ],
)
def test_refusals(more, text):
    error = layer_error(prototxt(more=more), [x.shape for x in maps(0)])
    assert text in str(error)
    assert isinstance(error, UnsupportedLayerError if "gaussian" in more else NetError)


def test_onnx_cannot_drop_boxes_that_do_not_overlap():
    with pytest.raises(UnsupportedLayerError, match="cannot drop boxes that do not overlap"):
        check_layer(prototxt(nms=0), maps(0), expected(maps(0), nms=0))
    check_layer(prototxt(nms=0), maps(0), expected(maps(0), nms=0), onnx=False)
