"""SSD's boxes in ONNX: the counterpart of ``_boxes.py`` in standard operators."""

from __future__ import annotations

import numpy as np

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._onnx import ints, kept_rows, to_float

LOWEST = float(np.finfo(np.float32).min)
FAR = -1e6
"""A coordinate before those of any image, at which float32 still tells 0.1 from 0."""
FLOAT, INT64, BOOL = 1, 7, 9
"""The data types of ONNX's Cast."""

MOST_IN_TURN = 2048
"""Boxes of a group that a form of fixed rows suppresses: each pair has a number, each box nodes."""

CORNERS = [0, 1, 2, 1, 2, 3, 0, 3]
"""Where x and y of a box's corners are, clockwise from the top left."""


def decode_boxes_onnx(g: OnnxBuilder, loc: str, prior: str, variance: str, code_type: str) -> str:
    """``decode_boxes``; an empty name for ``variance`` means 1."""
    offset = g.op("Mul", variance, loc) if variance else loc
    if code_type == "CORNER":
        return str(g.op("Add", prior, offset))
    low, high = _halves(g, prior)
    size = g.op("Sub", high, low)
    if code_type == "CORNER_SIZE":
        both = g.op("Concat", size, size, axis=-1)
        return str(g.op("Add", prior, g.op("Mul", offset, both)))
    shift, growth = _halves(g, offset)
    two = g.const(2.0)
    middle = g.op("Div", g.op("Add", low, high), two)
    centre = g.op("Add", g.op("Mul", shift, size), middle)
    half = g.op("Div", g.op("Mul", g.op("Exp", growth), size), two)
    return str(g.op("Concat", g.op("Sub", centre, half), g.op("Add", centre, half), axis=-1))


def falling_thresholds(threshold: float, eta: float) -> list[float]:
    """The thresholds before each kept box, up to the one that no longer falls."""
    limits = [np.float32(threshold)]
    while eta < 1 and limits[-1] > 0.5:
        limits.append(limits[-1] * np.float32(eta))
    return [float(limit) for limit in limits]


def suppress_onnx(
    g: OnnxBuilder, boxes: str, scores: str, count: int | str, limits: list[float]
) -> str:
    """``suppress`` for boxes (G, K, 4) and falling scores (G, K), as a mask (G, K).

    ``count`` is K, or the value (1) that holds it where it depends on the data.

    ``limits`` are ``falling_thresholds``: as many boxes as there are thresholds that fall
    are kept one by one, the others by NonMaxSuppression, or in turn where the builder asks for
    ``fixed_rows``. Scores of LOWEST are no candidates.
    """
    # NonMaxSuppression would swap the corners of an inverted box: it gets an empty one.
    low, high = _halves(g, boxes)
    boxes = g.op("Concat", low, g.op("Max", low, high), axis=-1)
    kept = ""
    if len(limits) > 1:
        kept, scores = _keep_first(g, boxes, scores, count, limits)
    if g.fixed_rows and isinstance(count, int):
        rest = _suppress_in_turn(g, boxes, scores, count, limits[-1])
    else:
        size = g.const([count], np.int64) if isinstance(count, int) else count
        rest = _non_max_suppression(g, boxes, scores, size, limits[-1])
    return str(g.op("Or", kept, rest)) if kept else rest


def _suppress_in_turn(g: OnnxBuilder, boxes: str, scores: str, count: int, limit: float) -> str:
    """The suppression written out box by box, for programs that plan with fixed sizes.

    A box that is still there when its turn comes drops the later ones that it overlaps.
    Raises UnsupportedLayerError for more than MOST_IN_TURN boxes.
    """
    if count > MOST_IN_TURN:
        raise UnsupportedLayerError(
            f"a fixed number of rows needs nodes for each of the {count} boxes that are compared, "
            f"and {MOST_IN_TURN} are the most. Limit them (nms_param.top_k of DetectionOutput), "
            "or end the net before the layer with --until."
        )
    one, two = ints(g, 1, 2)
    overlap = _overlap(g, g.op("Unsqueeze", boxes, two), g.op("Unsqueeze", boxes, one))
    index = np.arange(count)
    later = g.op("Less", g.const(index[:, None]), g.const(index))
    drops = g.op("Cast", g.op("And", g.op("Greater", overlap, g.const(limit)), later), to=FLOAT)
    gone = g.op("Cast", g.op("LessOrEqual", scores, g.const(LOWEST)), to=FLOAT)
    gone = g.op("Unsqueeze", gone, one)
    for place in range(count - 1):
        turn = ints(g, place, place + 1)
        row = g.op("Slice", drops, *turn, one)
        gone = g.op("Max", gone, g.op("Sub", row, g.op("Slice", gone, *turn, two)))
    return str(g.op("Squeeze", g.op("Less", gone, g.const(0.5)), one))


def _non_max_suppression(g: OnnxBuilder, boxes: str, scores: str, count: str, limit: float) -> str:
    # By rank, not by score: OpenCV 5.0 wants a threshold >= 0, and equal scores have an order.
    one = g.const([1], np.int64)
    ends = g.const(0, np.int64), g.const(-1, np.int64)
    rank = to_float(g, g.op("Range", g.op("Squeeze", count), *ends))
    ranks = g.op("Where", g.op("Greater", scores, g.const(LOWEST)), rank, g.const(0.0))
    chosen = g.op(
        "NonMaxSuppression",
        _apart(g, boxes, rank),
        g.op("Unsqueeze", ranks, one),
        count,
        g.const([min(limit, 1.0)]),
        g.const([0.0]),
    )
    places = g.op("Gather", chosen, g.const([0, 2], np.int64), axis=1)
    number = g.op("Slice", g.op("Shape", chosen), g.const([0], np.int64), one)
    mask = g.op(
        "ScatterND",
        g.op("Expand", g.const(0.0), g.op("Shape", scores)),
        places,
        g.op("Expand", g.const(1.0), number),
    )
    return str(g.op("Cast", mask, to=BOOL))


def _apart(g: OnnxBuilder, boxes: str, rank: str) -> str:
    """``boxes``, with those of no area each in a place of its own, where it meets no other.

    Such a box overlaps none in Caffe, while OpenCV 5.0 takes all of them for one.
    """
    low, high = _halves(g, boxes)
    area = g.op("ReduceProd", g.op("Sub", high, low), axes=[-1])
    place = g.op("Sub", g.const(FAR), g.op("Mul", rank, g.const(2.0)))
    place = g.op("Unsqueeze", place, g.const([1], np.int64))
    unit = g.op("Add", place, g.const([[0.0, 0.0, 1.0, 1.0]]))
    return str(g.op("Where", g.op("Greater", area, g.const(0.0)), boxes, unit))


def _keep_first(
    g: OnnxBuilder, boxes: str, scores: str, count: int | str, limits: list[float]
) -> tuple[str, str]:
    """Keep a box for each falling threshold; the mask, and the scores left to choose from."""
    lowest = g.const(LOWEST)
    if isinstance(count, int):
        index = g.const([range(count)], np.int64)
    else:
        ends = g.const(0, np.int64), g.op("Squeeze", count), g.const(1, np.int64)
        index = g.op("Unsqueeze", g.op("Range", *ends), g.const([0], np.int64))
    candidates = g.op("Greater", scores, lowest)
    worst, kept = "", ""
    for limit in limits[1:]:
        first = g.op("ArgMax", g.op("Cast", candidates, to=FLOAT), axis=1)
        chosen = g.op("And", candidates, g.op("Equal", index, first))
        kept = g.op("Or", kept, chosen) if kept else chosen
        overlap = _overlap(g, _box_at(g, boxes, first), boxes)
        worst = g.op("Max", worst, overlap) if worst else overlap
        later = g.op("Greater", index, first)
        fits = g.op("LessOrEqual", worst, g.const(limit))
        candidates = g.op("And", candidates, g.op("And", later, fits))
    return kept, g.op("Where", candidates, scores, lowest)


def _box_at(g: OnnxBuilder, boxes: str, index: str) -> str:
    """The box (G, 1, 4) at the ``index`` (G, 1) of each group."""
    index = g.op("Unsqueeze", index, g.const([2], np.int64))
    index = g.op("Expand", index, g.const([1, 1, 4], np.int64))
    return str(g.op("GatherElements", boxes, index, axis=1))


def _overlap(g: OnnxBuilder, box: str, boxes: str) -> str:
    (low1, high1), (low2, high2) = _halves(g, box), _halves(g, boxes)
    # Boxes that do not meet share a part of no size here, never one of two negative sides.
    zero = g.const(0.0)
    size = g.op("Sub", g.op("Min", high1, high2), g.op("Max", low1, low2))
    shared = _product(g, g.op("Max", size, zero))
    areas = g.op(
        "Add", _product(g, g.op("Sub", high1, low1)), _product(g, g.op("Sub", high2, low2))
    )
    ratio = g.op("Div", shared, g.op("Sub", areas, shared))
    return str(g.op("Where", g.op("Greater", shared, zero), ratio, zero))


def _product(g: OnnxBuilder, pairs: str) -> str:
    return str(g.op("ReduceProd", pairs, axes=[-1], keepdims=0))


def _halves(g: OnnxBuilder, boxes: str) -> tuple[str, str]:
    low, high = g.op("Split", boxes, g.const([2, 2], np.int64), axis=-1, outputs=2)
    return low, high


def move_corners_onnx(g: OnnxBuilder, offsets: str, prior: str, variance: str) -> str:
    """``move_corners``: quadrangles (.., P, 8) of offsets of that shape and priors (P, 4)."""
    low, high = _halves(g, prior)
    size = g.op("Sub", high, low)
    first, _ = _halves(g, variance)
    factor = g.op("Mul", first, size)
    moved = g.op("Mul", offsets, g.op("Concat", *[factor] * 4, axis=-1))
    corners = g.op("Gather", prior, g.const(CORNERS, np.int64), axis=1)
    return str(g.op("Add", moved, corners))


def no_rows_onnx(g: OnnxBuilder, batch: str, width: int) -> str:
    """The rows (image, -1, ...) that stand for no detection in a batch of this size."""
    scalar = g.op("Squeeze", batch)
    images = g.op("Range", g.const(0, np.int64), scalar, g.const(1, np.int64))
    images = g.op("Unsqueeze", g.op("Cast", images, to=FLOAT), g.const([1], np.int64))
    return str(g.op("Pad", images, g.const([0, 0, 0, width - 1], np.int64), g.const(-1.0)))


def rows_or_onnx(g: OnnxBuilder, rows: str, kept: str, spare: str, batch: str = "") -> str:
    """``rows`` (R, ..), or the rows ``spare`` if there are none, by the mask that chose ``rows``.

    ``batch`` is the number of rows of ``spare``, 1 without it. The first column of ``rows`` is not
    negative. (A Slice that depends on the number of rows would do too, but not in tract.)
    """
    most = g.op("ReduceMax", to_float(g, kept), axes=[0])
    none = g.op("Less", most, g.const(0.5))
    if batch:
        none = g.op("Expand", none, batch)
    first = g.op("Gather", rows, g.const(0, np.int64), axis=1)
    chosen = g.op("Concat", g.op("GreaterOrEqual", first, g.const(0.0)), none, axis=0)
    return kept_rows(g, g.op("Concat", rows, spare, axis=0), chosen)


def rows_or_none_onnx(g: OnnxBuilder, rows: str, kept: str, batch: str, width: int = 7) -> str:
    """``rows`` (K, width) as (1, 1, K, width), or ``no_rows_onnx`` if there is none.

    The mask ``kept`` chose the rows. Both are empty where there never is one.
    """
    no_rows = no_rows_onnx(g, batch, width)
    result = rows_or_onnx(g, rows, kept, no_rows, batch) if rows else no_rows
    return str(g.op("Unsqueeze", result, g.const([0, 1], np.int64)))


def fixed_rows_onnx(
    g: OnnxBuilder, rows: str, kept: str, most: int, *, total: int, batch: int, width: int = 7
) -> str:
    """``rows_or_none_onnx`` as (1, 1, most, width), for a builder that asks for ``fixed_rows``.

    Of all the ``rows`` (total, width) those of the mask ``kept`` (total) come first, in their
    order, at most ``most`` of them; what is left is -1. ``batch`` is at most ``most``. ``rows`` is
    empty where there never is one.
    """
    spare = np.full((most, width), -1.0)
    spare[:batch, 0] = range(batch)
    rest = g.const(spare)
    if rows:
        # A falling number for each row that is kept, so that no program has equal ones to sort.
        turns = g.op("Where", kept, g.const(range(total, 0, -1)), g.const(0.0))
        turns, places = g.op("TopK", turns, g.const([most], np.int64), axis=0, outputs=2)
        found = g.op("Greater", g.op("Unsqueeze", turns, *ints(g, 1)), g.const(0.0))
        rest = g.op("Where", g.op("Slice", found, *ints(g, 0, 1, 0)), g.const(-1.0), rest)
        rest = g.op("Where", found, g.op("Gather", rows, places, axis=0), rest)
    return str(g.op("Unsqueeze", rest, g.const([0, 1], np.int64)))
