"""BoxGroupOutput: the proposals of a Cascade R-CNN net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._mscnn import REGRESSION, FieldBoxes, Fields
from caffe2torch.layers._onnx import ints


@register_layer()
class BoxGroupOutput(FieldBoxes):
    """Proposals of groups of boxes (Cascade R-CNN's Caffe: box_group_output_layer.cpp).

    As BoxOutput, but a map has several fields, and two bottoms: probabilities
    (N * G, classes, H, W), the background's first, and offsets (N * G, 4, H, W), where index
    n * G + k is of image n and field k. Each ``box_group_param`` has the ``field_w`` and
    ``field_h`` of a pair and its ``stride``. A box's score is 1 minus the background's
    probability; its last pixel belongs to it, so a width is x2 - x1 + 1; equal scores are in
    the order of map, field and cell, which Caffe's sort leaves open. Boxes that are apart by
    less than a pixel share the rest of it here, and nothing in Caffe: far below any threshold.
    """

    type = "BoxGroupOutput"
    parameters = Parameters(
        ("box_group_output_param", "bbox_reg_param"),
        f"""
        message BoxGroupParameter {{
          repeated uint32 field_h = 1;
          repeated uint32 field_w = 2;
          optional uint32 stride = 3;
        }}
        optional float fg_thr = 1 [default = 0];
        optional float iou_thr = 2 [default = 0.5];
        optional string nms_type = 3 [default = "IOU"];
        repeated BoxGroupParameter box_group_param = 4;
        optional float field_whr = 5 [default = 2];
        optional float field_xyr = 6 [default = 2];
        optional uint32 max_nms_num = 7 [default = 0];
        optional uint32 max_post_nms_num = 8 [default = 0];
        optional float min_size = 9 [default = 15];
        {REGRESSION}
        """,
    )
    bottoms = (2, None)

    fields: tuple[Fields, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        groups = p.box_group_param
        if len(proto.bottom) != 2 * len(groups):
            raise net_error(
                proto,
                f"{len(groups)} box_group_param for {len(proto.bottom)} bottoms; each has two",
                "box_group_output_param",
            )
        if any(len(p.field_w) != len(p.field_h) or not p.field_w for p in groups):
            raise net_error(
                proto, "needs as many field_w as field_h", "box_group_output_param.box_group_param"
            )
        return cls(
            **cls.common(proto, p, "box_group_output_param"),
            strides=tuple(group.stride for group in groups),
            fields=tuple(tuple(zip(p.field_w, p.field_h, strict=True)) for p in groups),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        images = set()
        for group, scores, offsets in zip(self.fields, bottoms[::2], bottoms[1::2], strict=True):
            count = len(group)
            if len(scores) != 4 or scores[0] % count:
                raise self.net_error(
                    f"the probabilities' shape {scores} is not (N * {count}, classes, H, W)"
                )
            if tuple(offsets) != (scores[0], 4, *scores[2:]):
                raise self.net_error(
                    f"the offsets' shape {offsets} is not {(scores[0], 4, *scores[2:])}"
                )
            images.add(scores[0] // count)
        if len(images) != 1:
            raise self.net_error(f"the bottoms are of {' and '.join(map(str, images))} images")
        return self.top_shapes()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        tops = t.runtime.box_group_output(tuple(inputs), fields=self.fields, **self.options())
        return tops if self.num_tops == 2 else tops[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        boxes, scores, count = [], [], 0
        one = g.const(1.0)
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        for (probability, offsets), group, stride in zip(
            pairs, self.fields, self.strides, strict=True
        ):
            _, _, height, width = g.shape(probability)
            ground = g.op("Slice", probability, *ints(g, 0, 1, 1))
            limit = g.const([width * stride, height * stride])
            for place, field in enumerate(group):
                step = ints(g, place, np.iinfo(np.int64).max, 0, len(group))
                score, moves = (g.op("Slice", value, *step) for value in (ground, offsets))
                scores.append(g.op("Flatten", g.op("Sub", one, score), axis=1))
                low, side = self.field_boxes_onnx(g, moves, (height, width), field, stride)
                high = g.op("Min", g.op("Sub", g.op("Add", low, side), one), limit)
                boxes.append(g.op("Concat", g.op("Max", low, g.const(0.0)), high, axis=2))
                count += height * width
        joined, score = g.op("Concat", *boxes, axis=1), g.op("Concat", *scores, axis=1)
        low, high = g.op("Split", joined, g.const([2, 2], np.int64), axis=2, outputs=2)
        side = g.op("Add", g.op("Sub", high, low), one)
        return self.tops_onnx(g, joined, side, score, count, 1)
