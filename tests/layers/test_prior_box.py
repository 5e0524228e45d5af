from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError, UnsupportedLayerError


def priors(cells, image, step, offset, boxes, variance, clip=False):
    """The top, from the boxes (width, height) of a cell."""
    rows = []
    for y in range(cells[0]):
        for x in range(cells[1]):
            centre = ((x + offset) * step[1], (y + offset) * step[0])
            for box in boxes:
                rows.append(
                    [
                        (centre[i] + sign * box[i] / 2) / image[1 - i]
                        for sign in (-1, 1)
                        for i in range(2)
                    ]
                )
    values = np.array(rows)
    if clip:
        values = values.clip(0, 1)
    return np.stack([values.ravel(), np.tile(variance, len(rows))])[None]


def zeros(*shapes):
    return [np.zeros(shape, np.float32) for shape in shapes]


def prior_box(fields: str) -> str:
    return f'type: "PriorBox" prior_box_param {{ {fields} }}'


def test_sizes_ratios_and_flips_in_caffes_order():
    root = sqrt(2)
    boxes = [(10, 10), (sqrt(300),) * 2, (10 * root, 10 / root), (10 / root, 10 * root)]
    boxes += [(25, 25), (sqrt(1275),) * 2, (25 * root, 25 / root), (25 / root, 25 * root)]
    check_layer(
        prior_box("min_size: 10.7 min_size: 25 max_size: 30.9 max_size: 51 aspect_ratio: 2"),
        zeros((2, 3, 5, 7), (2, 3, 60, 91)),
        [priors((5, 7), (60, 91), (12, 13), 0.5, boxes, [0.1] * 4)],
        batch_inputs=zeros((5, 3, 5, 7), (5, 3, 60, 91)),
        batch_expected=[priors((5, 7), (60, 91), (12, 13), 0.5, boxes, [0.1] * 4)],
    )


@pytest.mark.parametrize(
    ("fields", "image"), [("img_size: 50", (50, 50)), ("img_h: 40 img_w: 70", (40, 70))]
)
def test_image_size_of_the_parameters_needs_no_image(fields, image):
    check_layer(
        prior_box(f"min_size: 7 {fields}"),
        zeros((1, 2, 5, 7)),
        [priors((5, 7), image, (image[0] / 5, image[1] / 7), 0.5, [(7, 7)], [0.1] * 4)],
    )


@pytest.mark.parametrize(
    ("fields", "step"), [("step: 11", (11, 11)), ("step_h: 9 step_w: 12.5", (9, 12.5))]
)
def test_step_offset_and_clip(fields, step):
    variance = [0.1, 0.2, 1.5, 3]
    values = " ".join(f"variance: {v}" for v in variance)
    check_layer(
        prior_box(f"min_size: 9 offset: 0.2 clip: true {fields} {values}"),
        zeros((1, 2, 3, 5), (1, 1, 31, 53)),
        [priors((3, 5), (31, 53), step, 0.2, [(9, 9)], variance, clip=True)],
    )


def test_repeated_ratios_are_dropped_and_flip_can_be_off():
    root = sqrt(3)
    boxes = [(8, 8), (8 * root, 8 / root), (8 / sqrt(2), 8 * sqrt(2))]
    check_layer(
        prior_box(
            "min_size: 8 flip: false aspect_ratio: 1 aspect_ratio: 3 aspect_ratio: 3.0000002"
            " aspect_ratio: 0.5"
        ),
        zeros((1, 2, 2, 3), (1, 1, 20, 30)),
        [priors((2, 3), (20, 30), (10, 10), 0.5, boxes, [0.1] * 4)],
    )


def test_axes_that_are_not_there_count_as_one():
    check_layer(
        prior_box("min_size: 6"),
        zeros((2, 5), (2, 1, 20, 30)),
        [priors((1, 1), (20, 30), (20, 30), 0.5, [(6, 6)], [0.1] * 4)],
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("aspect_ratio: 2", "no min_size is given"),
        ("min_size: 0", "min_size 0 is not positive"),
        ("min_size: 5 max_size: 5", "max_size 5 is not greater than min_size 5"),
        ("min_size: 5 max_size: 8 max_size: 9", "2 max_size for 1 min_size"),
        ("min_size: 5 variance: 0.1 variance: 0.2", "neither one nor four positive values"),
        ("min_size: 5 variance: 0", "neither one nor four positive values"),
        ("min_size: 5 img_size: 9 img_h: 9 img_w: 9", "both img_size and img_h or img_w"),
        ("min_size: 5 img_h: 9", "img_h and img_w must be positive, not (9, 0)"),
        ("min_size: 5 step: 2 step_w: 3", "both step and step_h or step_w"),
        ("min_size: 5 step: 0", "step must be positive"),
    ],
)
def test_refuses_what_caffe_refuses(fields, text):
    bottoms = 'bottom: "a" bottom: "b" top: "t"'
    error = refusal(f"{bottoms} {prior_box(fields)}", (1, 2, 3, 5), (1, 3, 20, 30))
    assert isinstance(error, NetError)
    assert text in str(error)


def test_refuses_one_bottom_without_an_image_size():
    error = refusal(f'bottom: "a" top: "t" {prior_box("min_size: 5")}', (1, 2, 3, 5))
    assert isinstance(error, NetError)
    assert "one bottom and no image size" in str(error)


def test_refuses_a_ratio_that_makes_no_box():
    fields = f'bottom: "a" bottom: "b" top: "t" {prior_box("min_size: 5 aspect_ratio: 0")}'
    error = refusal(fields, (1, 2, 3, 5), (1, 3, 20, 30))
    assert isinstance(error, UnsupportedLayerError)
    assert "aspect_ratio 0 makes no box" in str(error)
