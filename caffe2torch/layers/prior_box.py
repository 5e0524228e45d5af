"""PriorBox: the default boxes that an SSD head refines, one set for each cell of a map."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from math import inf, isfinite, prod, sqrt
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._runtime.box_edges import box_edges

Box = tuple[float, float]

FORKS = Parameters(
    "prior_box_param",
    f"""
    optional bool denser_prior_boxes = {TEXT_ONLY} [default = false];
    repeated float fixed_size = {TEXT_ONLY + 1};
    repeated float fixed_ratio = {TEXT_ONLY + 2};
    repeated float density = {TEXT_ONLY + 3};
    repeated float width = {TEXT_ONLY + 4};
    repeated float height = {TEXT_ONLY + 5};
    repeated float offset_h = {TEXT_ONLY + 6};
    repeated float offset_w = {TEXT_ONLY + 7};
    optional bool faceboxes = {TEXT_ONLY + 8} [default = false];
    optional bool bounded = {TEXT_ONLY + 9} [default = false];
    """,
)
"""What forks add. They give 14 and the numbers after it to different fields."""


@register_layer()
class PriorBox(Layer):
    """Boxes around the centres of a map's cells (SSD's Caffe: prior_box_layer.cpp).

    Bottoms (N, C, H, W) and, unless the image size is a parameter, the image (N, C, h, w).
    The top is (1, 2, 4HWP) for any N: the boxes (xmin, ymin, xmax, ymax) as fractions of the
    image, then their variances. Cells come row by row. A cell has, for each ``min_size`` s:
    s x s; if there is a ``max_size`` m, a square of side sqrt(s m); for each aspect ratio a,
    s sqrt(a) x s / sqrt(a). Sizes are cut to whole numbers, as in Caffe.

    ``flip`` (default true) adds 1 / a for each a; ratio 1 and ratios that repeat an earlier
    one are dropped. ``clip`` (default false) limits the boxes, not the variances, to [0, 1].
    Cell x has its centre at (x + ``offset``) ``step``; the step is by default image size /
    map size, the offset 0.5. ``variance`` is one value or four (default 0.1).

    Forks: ``denser_prior_boxes`` (TextBoxes++) follows each box with one whose centre is at
    (y + 1) ``step`` instead. ``width`` and ``height`` (OpenCV) list the boxes instead of
    sizes and ratios, uncut; ``offset_h`` and ``offset_w`` (OpenCV), one or two of each,
    repeat each box at every pair of offsets. ``fixed_size`` and ``density`` (FaceBoxes
    rewritten for SSD: lippman1125/faceboxes_lqy): see ``_dense_boxes``. ``faceboxes``
    (sfzhang15/FaceBoxes, whose nets do not say it; the field is synopsys-caffe's): see
    ``_faceboxes``.
    """

    type = "PriorBox"
    parameters = FORKS
    bottoms = (1, None)

    boxes: tuple[Box, ...]
    """Height and width of a cell's boxes."""
    offsets: tuple[Box, ...]
    """From a cell's corner to a box's centre, in cells: one for all boxes, or one a box."""
    shifts: tuple[Box, ...]
    """What comes to that in pixels, likewise."""
    bounded: bool
    """Whether low edges are at least 0 and high ones at most 1."""
    variance: tuple[float, float, float, float]
    clip: bool
    image: tuple[int, int] | None
    step: tuple[float, float] | None

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        boxes, shifts = cls._boxes(proto)
        offsets = _offsets(proto)
        if len(offsets) > 1:
            boxes = [box for box in boxes for _ in offsets]
            offsets *= len(boxes) // len(offsets)
        image = _pair(proto, "img_size", "img_h", "img_w")
        if image is None and len(proto.bottom) < 2:
            raise net_error(
                proto,
                "one bottom and no image size; give the image as second bottom, or img_size",
                "prior_box_param.img_size",
            )
        return cls(
            name=proto.name,
            boxes=tuple(boxes),
            offsets=tuple(offsets),
            shifts=tuple(shifts),
            bounded=FORKS.of(proto).bounded,
            variance=_variance(proto),
            clip=proto.prior_box_param.clip,
            image=image,
            step=_pair(proto, "step", "step_h", "step_w"),
        )

    @classmethod
    def _boxes(cls, proto: Message) -> tuple[list[Box], list[Box]]:
        """The boxes of a cell before they are repeated at offsets, and their shifts."""
        p, fork = proto.prior_box_param, FORKS.of(proto)
        given = ["min_size"] * bool(p.min_size)
        given += [name for name in ("fixed_size", "width") if getattr(fork, name)]
        if len(given) > 1:
            raise unsupported(
                proto,
                f"{' and '.join(given)} are of different forks; keep those of the one that "
                "trained the net",
                f"prior_box_param.{given[1]}",
            )
        if fork.HasField("bounded") and not (fork.fixed_size or fork.fixed_ratio or fork.density):
            raise unsupported(
                proto,
                "no fork bounds other boxes than those of fixed_size; remove it here",
                "prior_box_param.bounded",
            )
        if fork.faceboxes:
            return _faceboxes(proto)
        if fork.width or fork.height:
            return _listed_boxes(proto), [(0, 0)]
        if fork.fixed_size or fork.density or fork.fixed_ratio:
            return _dense_boxes(proto)
        return _boxes(proto), [(0, 0)]

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape in bottoms[: 1 if self.image else 2]:
            if len(shape) > 4:
                raise self.net_error(f"bottom of shape {shape} has more than 4 axes")
        height, width = _plane(bottoms[0])
        if not height * width:
            raise self.net_error(f"bottom of shape {bottoms[0]} has no cells")
        return [(1, 2, height * width * len(self.boxes) * 4)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        image = t.exact(self.image) if self.image else _plane(bottoms[-1])
        if not self.image and len(bottoms[-1]) == 4:
            image = inputs[1].shape[2:]
        options = {} if self.step is None else {"step": t.exact(self.step)}
        boxes, variance = t.exact(self.boxes), t.exact(self.variance)
        options.update(offset=t.exact(self.offsets), shift=t.exact(self.shifts))
        return t.runtime.prior_boxes(
            inputs[0], image, boxes, variance, **options, bounded=self.bounded, clip=self.clip
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shapes = [g.shape(inputs[0]), g.shape(inputs[-1])]
        height, width = _plane(shapes[0])
        check_constant(prod(self.infer_shapes(shapes)[0]))
        cells = np.arange(height)[:, None], np.arange(width)[:, None]
        image = self.image or _plane(shapes[1])
        offsets, shifts = np.array(self.offsets).T, np.array(self.shifts).T
        extents = np.array(self.boxes).T
        ys, xs = box_edges((height, width), image, self.step, offsets, shifts, cells, extents)
        top = np.empty((2, height, width, len(self.boxes), 4), np.float32)
        boxes, top[1] = top[0], self.variance
        for i in range(2):
            boxes[..., 2 * i] = xs[i][None]
            boxes[..., 2 * i + 1] = ys[i][:, None]
        if self.bounded:
            np.maximum(boxes[..., :2], 0, out=boxes[..., :2])
            np.minimum(boxes[..., 2:], 1, out=boxes[..., 2:])
        if self.clip:
            boxes.clip(0, 1, out=boxes)
        return [g.op("Identity", g.const(top.reshape(1, 2, -1)))]


def _plane(shape: Sequence[int]) -> tuple[int, int]:
    """Height and width as Caffe's old accessors give them: 1 for axes that are not there."""
    height, width = (*shape, 1, 1, 1, 1)[2:4]
    return height, width


def _boxes(proto: Message) -> list[Box]:
    """The height and width of a cell's boxes."""
    p = proto.prior_box_param
    for field in ("min_size", "max_size", "aspect_ratio"):
        if not all(map(isfinite, getattr(p, field))):
            raise net_error(proto, "a size must be a finite number", f"prior_box_param.{field}")
    sizes, largest = [int(size) for size in p.min_size], [int(size) for size in p.max_size]
    if not sizes:
        raise net_error(proto, "no min_size is given", "prior_box_param.min_size")
    if min(p.min_size) <= 0:
        raise net_error(proto, f"min_size {min(p.min_size):g} is not positive", "prior_box_param")
    if largest and len(largest) != len(sizes):
        raise net_error(
            proto,
            f"{len(largest)} max_size for {len(sizes)} min_size; give as many, or none",
            "prior_box_param.max_size",
        )
    for low, high in zip(p.min_size, p.max_size, strict=False):
        if high <= low:
            raise net_error(
                proto,
                f"max_size {high:g} is not greater than min_size {low:g}",
                "prior_box_param.max_size",
            )
    boxes: list[Box] = []
    for i, size in enumerate(sizes):
        boxes.append((size, size))
        if largest:
            boxes.append((sqrt(size * largest[i]),) * 2)
        boxes += [(size / sqrt(ratio), size * sqrt(ratio)) for ratio in _ratios(proto)]
    return boxes


def _listed_boxes(proto: Message) -> list[Box]:
    """The boxes whose sizes the net lists one by one."""
    p, fork = proto.prior_box_param, FORKS.of(proto)
    if p.max_size or p.aspect_ratio or len(fork.width) != len(fork.height):
        raise net_error(
            proto,
            f"{len(fork.width)} width, {len(fork.height)} height, {len(p.max_size)} max_size and "
            f"{len(p.aspect_ratio)} aspect_ratio are given; give as many height as width, and "
            "none of the others",
            "prior_box_param.width",
        )
    if not all(0 < size < inf for size in (*fork.width, *fork.height)):
        raise net_error(proto, "a size must be a positive number", "prior_box_param.width")
    return list(zip(fork.height, fork.width, strict=True))


def _dense_boxes(proto: Message) -> tuple[list[Box], list[Box]]:
    """For each fixed_size s and its density d: a d x d grid of boxes for each ratio.

    The ratios are 1 and those of ``aspect_ratio``, flipped as elsewhere, or the one
    ``fixed_ratio``. Boxes of ratio 1 have the side s, cut to a whole number, others
    s sqrt(a) x s / sqrt(a). Grid points are whole(s / d) pixels apart and start at half of
    that from the corner of a square of side 2 whole(s / 2) around the centre, row by row.
    lippman1125's Caffe bounds these boxes by the image whatever ``clip`` says, which
    yuqj1991/caffe_train's does not: ``bounded`` says which it is, a field of this package.
    """
    p, fork = proto.prior_box_param, FORKS.of(proto)
    if not fork.HasField("bounded"):
        raise unsupported(
            proto,
            "the Caffes that know it differ in whether boxes end at the image (lippman1125's "
            "FaceBoxes) or where ``clip`` says so (yuqj1991's): add bounded: true, or false, to "
            "prior_box_param",
            "prior_box_param.fixed_size",
        )
    if (
        not fork.fixed_size
        or len(fork.density) != len(fork.fixed_size)
        or len(fork.fixed_ratio) > 1
        or p.max_size
    ):
        raise net_error(
            proto,
            f"{len(fork.fixed_size)} fixed_size, {len(fork.density)} density, "
            f"{len(fork.fixed_ratio)} fixed_ratio and {len(p.max_size)} max_size are given; "
            "give a density for each fixed_size, at most one fixed_ratio and no max_size",
            "prior_box_param.density",
        )
    if fork.fixed_ratio and p.aspect_ratio:
        raise net_error(proto, "it does not go with aspect_ratio", "prior_box_param.fixed_ratio")
    for field in ("fixed_size", "fixed_ratio", "density"):
        if not all(0 < value < inf for value in getattr(fork, field)):
            raise net_error(proto, "it must be a positive number", f"prior_box_param.{field}")
    if min(fork.density) < 1:
        raise net_error(proto, "it must be 1 or more", "prior_box_param.density")
    boxes: list[Box] = []
    shifts: list[Box] = []
    for size, density in zip(fork.fixed_size, map(int, fork.density), strict=True):
        start, gap = -(int(size) // 2), int(size / density)
        line = [start + gap / 2 + i * gap for i in range(density)]
        sides: list[Box] = [] if fork.fixed_ratio else [(int(size), int(size))]
        for ratio in fork.fixed_ratio or _ratios(proto):
            sides.append((size / sqrt(ratio), size * sqrt(ratio)))
        boxes += [side for side in sides for _ in range(density**2)]
        shifts += [(y, x) for y in line for x in line] * len(sides)
    return boxes, shifts


def _faceboxes(proto: Message) -> tuple[list[Box], list[Box]]:
    """Squares whose sides are one pixel less than ``min_size``, the small ones in grids.

    A size of 32 has 4 x 4 boxes 8 pixels apart, the first 16 left of and above the centre; 64 has
    2 x 2, 16 pixels apart, the first 16 left of and above. What ``max_size`` and
    ``aspect_ratio`` add are the boxes of SSD.
    """
    p, fork = proto.prior_box_param, FORKS.of(proto)
    if fork.fixed_size or fork.width or fork.height or fork.denser_prior_boxes:
        raise unsupported(proto, "its forks know min_size only", "prior_box_param.faceboxes")
    ssd = _boxes(proto)
    each = len(ssd) // len(p.min_size)
    boxes: list[Box] = []
    shifts: list[Box] = []
    for i, size in enumerate(map(int, p.min_size)):
        line = {32: (-16, -8, 0, 8), 64: (-16, 0)}.get(size, (0,))
        boxes += [(size - 1, size - 1)] * len(line) ** 2 + ssd[i * each + 1 : (i + 1) * each]
        shifts += [(y, x) for y in line for x in line] + [(0, 0)] * (each - 1)
    expected = 21 + len(p.max_size) if len(p.min_size) == 3 else len(ssd)
    if len(boxes) != expected:
        raise net_error(
            proto,
            f"its forks make room for {expected} boxes of a cell, and these sizes make "
            f"{len(boxes)}; give 32, 64 and one more min_size, or neither of them",
            "prior_box_param.min_size",
        )
    return boxes, shifts


def _offsets(proto: Message) -> list[Box]:
    """Where the boxes of a cell have their centres, in cells from its corner."""
    p, fork = proto.prior_box_param, FORKS.of(proto)
    if fork.offset_h or fork.offset_w:
        if (
            len(fork.offset_h) != len(fork.offset_w)
            or len(fork.offset_h) > 2
            or p.HasField("offset")
        ):
            raise net_error(
                proto,
                "give one or two offset_h, as many offset_w, and no offset",
                "prior_box_param.offset_h",
            )
        if fork.denser_prior_boxes:
            raise unsupported(proto, "no fork has it beside offset_h", "denser_prior_boxes")
        return list(zip(fork.offset_h, fork.offset_w, strict=True))
    if fork.denser_prior_boxes:
        if fork.fixed_size or fork.width:
            raise unsupported(proto, "its fork knows min_size only", "denser_prior_boxes")
        return [(p.offset, p.offset), (1.0, p.offset)]
    return [(p.offset, p.offset)]


def _ratios(proto: Message) -> list[float]:
    """The aspect ratios other than 1, without repetitions."""
    p = proto.prior_box_param
    ratios, known = [1.0], [1.0]  # The same values, and sorted: thousands may be given.
    for ratio in p.aspect_ratio:
        if ratio <= 0:
            raise unsupported(
                proto, f"aspect_ratio {ratio:g} makes no box", "prior_box_param.aspect_ratio"
            )
        if any(abs(ratio - near) < 1e-6 for near in _neighbours(known, ratio)):
            continue
        new = [ratio, 1 / ratio] if p.flip else [ratio]
        for value in new:
            insort(known, value)
        ratios += new
    return ratios[1:]


def _neighbours(known: Sequence[float], value: float) -> Sequence[float]:
    """Of sorted values the one below ``value`` and the one above."""
    at = bisect_left(known, value)
    return known[max(0, at - 1) : at + 1]


def _variance(proto: Message) -> tuple[float, float, float, float]:
    values = tuple(proto.prior_box_param.variance) or (0.1,)
    if len(values) == 1:
        values *= 4
    if len(values) != 4 or min(values) <= 0:
        raise net_error(
            proto,
            f"variance {list(values)} is neither one nor four positive values",
            "prior_box_param.variance",
        )
    return values


def _pair(proto: Message, both: str, height: str, width: str) -> Any:
    """A (height, width) given as one field for both, as two fields, or not at all."""
    p = proto.prior_box_param
    single, parts = p.HasField(both), p.HasField(height) or p.HasField(width)
    if single and parts:
        raise net_error(
            proto, f"both {both} and {height} or {width} are given", f"prior_box_param.{both}"
        )
    if not single and not parts:
        return None
    pair = (getattr(p, both),) * 2 if single else (getattr(p, height), getattr(p, width))
    if min(pair) <= 0:
        fields = both if single else f"{height} and {width}"
        raise net_error(proto, f"{fields} must be positive, not {pair}", f"prior_box_param.{both}")
    return pair
