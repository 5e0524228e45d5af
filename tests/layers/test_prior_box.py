from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from harness import check_layer
from opencv_net import run_opencv
from refusals import refusal

from caffe2torch.errors import NetError, UnsupportedLayerError


def priors(cells, image, step, offset, boxes, variance, clip=False, places=((0, 0),)):
    """The top, from the boxes (width, height) of a cell.

    Each box is repeated at the ``places`` (x, y) in cells, added to the offset.
    """
    rows = []
    for y in range(cells[0]):
        for x in range(cells[1]):
            for box, place in ((box, place) for box in boxes for place in places):
                centre = (
                    (x + offset + place[0]) * step[1],
                    (y + offset + place[1]) * step[0],
                )
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


def test_textboxes_fork_repeats_each_box_half_a_cell_lower():
    root = sqrt(2)
    boxes = [(8, 8), (sqrt(8 * 20),) * 2, (8 * root, 8 / root), (8 / root, 8 * root)]
    check_layer(
        prior_box("min_size: 8 max_size: 20 aspect_ratio: 2 denser_prior_boxes: true clip: true"),
        zeros((1, 2, 3, 5), (1, 1, 31, 53)),
        [
            priors(
                (3, 5), (31, 53), (31 / 3, 53 / 5), 0.5, boxes, [0.1] * 4, True, ((0, 0), (0, 0.5))
            )
        ],
    )


def test_opencv_lists_boxes_and_offsets():
    check_layer(
        prior_box(
            "width: 9.5 width: 4 height: 3 height: 6.25 step: 11 offset_h: 0.25 offset_h: 0.75 "
            "offset_w: 0.5 offset_w: 1"
        ),
        zeros((1, 2, 3, 5), (1, 1, 31, 53)),
        [
            priors(
                (3, 5),
                (31, 53),
                (11, 11),
                0,
                [(9.5, 3), (4, 6.25)],
                [0.1] * 4,
                places=((0.5, 0.25), (1, 0.75)),
            )
        ],
    )


@pytest.mark.parametrize("offsets", ["", "offset_h: 0.25 offset_h: 0.75 offset_w: 0.5 offset_w: 1"])
def test_listed_boxes_are_those_of_opencv(offsets):
    fields = f"width: 9.5 width: 4 height: 3 height: 6.25 variance: 0.2 clip: false {offsets}"
    inputs = zeros((1, 2, 3, 5), (1, 3, 31, 53))
    check_layer(prior_box(fields), inputs, [run_opencv(prior_box(fields), inputs)])


def dense(cells, image, step, sizes, ratios, bounded):
    """Boxes as lippman1125/faceboxes_lqy computes them, or yuqj1991/caffe_train, in loops."""
    rows = []
    for y in range(cells[0]):
        for x in range(cells[1]):
            centre = ((x + 0.5) * step[1], (y + 0.5) * step[0])
            for size, density in sizes:
                shift = int(size / density)
                for ratio in ratios:
                    whole = int(size) if ratio == 1 else size
                    box = (whole * sqrt(ratio), whole / sqrt(ratio))
                    for row in range(density):
                        for column in range(density):
                            for sign in (-1, 1):
                                for i, step_of in enumerate((column, row)):
                                    at = centre[i] - int(size) // 2 + shift / 2 + step_of * shift
                                    edge = (at + sign * box[i] / 2) / image[1 - i]
                                    if bounded:
                                        edge = max(edge, 0) if sign < 0 else min(edge, 1)
                                    rows.append(edge)
    values = np.array(rows)
    return np.stack([values, np.full(len(values), 0.1)])[None]


@pytest.mark.parametrize(
    ("fields", "ratios"),
    [("", [1]), ("aspect_ratio: 2", [1, 2, 0.5]), ("fixed_ratio: 1.5", [1.5])],
)
@pytest.mark.parametrize("bounded", [True, False])
def test_density_spreads_fixed_sizes(fields, ratios, bounded):
    word = str(bounded).lower()
    text = f"fixed_size: 33.5 fixed_size: 21 density: 3 density: 1 bounded: {word} {fields}"
    check_layer(
        prior_box(text),
        zeros((1, 2, 3, 5), (1, 1, 31, 53)),
        [dense((3, 5), (31, 53), (31 / 3, 53 / 5), [(33.5, 3), (21, 1)], ratios, bounded)],
    )


def faceboxes(cells, image, step, squares):
    """The boxes of FaceBoxes, of a cell's (side, number of points on a line, their distance)."""
    rows = []
    for y in range(cells[0]):
        for x in range(cells[1]):
            for side, points, gap in squares:
                first = -gap * (points // 2)
                for row in range(points):
                    for column in range(points):
                        centre = [(x + 0.5) * step + first + column * gap]
                        centre += [(y + 0.5) * step + first + row * gap]
                        for sign in (-1, 1):
                            for at, length in zip(centre, image[::-1], strict=True):
                                rows.append((at + sign * (side - 1) / 2) / length)
    return np.stack([rows, np.full(len(rows), 0.1)])[None]


def test_faceboxes_has_small_sizes_in_grids_and_sides_a_pixel_shorter():
    bottoms = zeros((1, 2, 3, 5), (1, 1, 96, 160))
    check_layer(
        prior_box("min_size: 32 min_size: 64 min_size: 128 step: 32 faceboxes: true"),
        bottoms,
        [faceboxes((3, 5), (96, 160), 32, [(32, 4, 8), (64, 2, 16), (128, 1, 0)])],
    )
    check_layer(
        prior_box("min_size: 256 step: 64 faceboxes: true"),
        bottoms,
        [faceboxes((3, 5), (96, 160), 64, [(256, 1, 0)])],
    )


def test_faceboxes_has_larger_squares_and_ratios_as_ssd():
    fields = "min_size: 20 max_size: 45 aspect_ratio: 4 step: 9"
    bottoms = zeros((1, 2, 3, 5), (1, 1, 30, 50))
    boxes = [(19, 19), (30, 30), (40, 10), (10, 40)]
    check_layer(
        prior_box(f"{fields} faceboxes: true"),
        bottoms,
        [priors((3, 5), (30, 50), (9, 9), 0.5, boxes, [0.1] * 4)],
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("min_size: 32 faceboxes: true", "room for 1 boxes of a cell, and these sizes make 16"),
        ("min_size: 8 min_size: 9 min_size: 7 faceboxes: true", "room for 21 boxes"),
        ("fixed_size: 8 density: 1 faceboxes: true", "its forks know min_size only"),
        ("width: 5", "1 width, 0 height"),
        ("width: 5 height: 5 aspect_ratio: 2", "1 aspect_ratio are given"),
        ("width: -5 height: 5", "a size must be a positive number"),
        ("min_size: 5 width: 5 height: 5", "min_size and width are of different forks"),
        ("fixed_size: 5 density: 1", "add bounded: true, or false"),
        ("min_size: 5 bounded: true", "no fork bounds other boxes than those of fixed_size"),
        ("min_size: 5 bounded: false faceboxes: true", "no fork bounds other boxes"),
        ("bounded: true fixed_size: 5", "1 fixed_size, 0 density"),
        ("bounded: true fixed_size: 5 density: 0.5", "density: it must be 1 or more"),
        ("bounded: true fixed_size: 5 density: 1 fixed_ratio: 1 fixed_ratio: 2", "2 fixed_ratio"),
        ("bounded: true fixed_ratio: 2", "0 fixed_size"),
        ("min_size: 5 offset_h: 1", "give one or two offset_h, as many offset_w"),
        ("width: 5 height: 5 denser_prior_boxes: true", "its fork knows min_size only"),
    ],
)
def test_forks_forms_are_not_mixed(fields, text):
    bottoms = 'bottom: "a" bottom: "b" top: "t"'
    error = refusal(f"{bottoms} {prior_box(fields)}", (1, 2, 3, 5), (1, 3, 20, 30))
    assert text in str(error)
