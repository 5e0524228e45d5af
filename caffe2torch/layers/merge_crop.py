"""MergeCrop: a blob and the middle of a larger one, side by side or added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)


@register_layer()
class MergeCrop(Layer):
    """The channels of a (N, C, ..), then those of b (N, C, ..) where it lies under a; or a + b.

    Fork: naibaf7/caffe, mergecrop_layer.cu (it has no code for the CPU). On each spatial axis b
    is at least as large as a, and is cut at (b - a) / 2, rounded down. ``operation`` STACK
    (the default) or ADD; ``forward`` (default true), once a bottom, false takes zeros in its
    place; ``backward`` is for gradients, and by default b gets none.

    Errors: not the same N, fewer than three axes, b smaller than a; not the same C. STACK of
    one item may have a multiple of b's channels in a: that code mixes up others, and those of
    further items.
    """

    type = "MergeCrop"
    bottoms = (2, 2)
    parameters = Parameters(
        "mergecrop_param",
        """
        enum MergeOp { STACK = 0; ADD = 1; }
        optional MergeOp operation = 1 [default = STACK];
        repeated bool forward = 2;
        repeated bool backward = 3;
        """,
    )

    stacks: bool
    forward: tuple[bool, ...]
    backward: tuple[bool, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if max(len(param.forward), len(param.backward)) > 2:
            raise net_error(proto, "it has two bottoms, and as many flags", "mergecrop_param")
        forward, backward = (
            tuple(given) + default[len(given) :]
            for given, default in ((param.forward, (True, True)), (param.backward, (True, False)))
        )
        return cls(proto.name, enum_name(param, "operation") == "STACK", forward, backward)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        a, b = bottoms
        of_one = self.stacks and a[:1] == b[:1] == (1,)
        if len(a) < 3 or len(a) != len(b) or not (a[:2] == b[:2] or (of_one and not a[1] % b[1])):
            raise self.net_error(f"bottoms of shapes {a} and {b} must be (N, C, ..) of one N and C")
        if any(m < n for n, m in zip(a[2:], b[2:], strict=True)):
            raise self.net_error(f"the second bottom of shape {b} is smaller than {a}")
        return [(a[0], a[1] + b[1] * self.stacks, *a[2:])]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.merge_crop(*inputs, self.stacks, self.forward, self.backward)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        a, b = inputs
        shapes = [g.shape(x) for x in inputs]
        pairs = list(zip(*(shape[2:] for shape in shapes), strict=True))
        starts = [(m - n) // 2 for n, m in pairs]
        ends = [start + n for start, (n, _) in zip(starts, pairs, strict=True)]
        axes = list(range(2, len(shapes[0])))
        b = g.op("Slice", b, *(g.const(value, np.int64) for value in (starts, ends, axes)))
        parts = [
            x if runs else g.op("ConstantOfShape", g.op("Shape", x))
            for x, runs in zip((a, b), self.forward, strict=True)
        ]
        return [g.op("Concat", *parts, axis=1) if self.stacks else g.op("Add", *parts)]
