"""SpatialTransformer: an image seen through an affine map of its own."""

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
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._spatial import require_axes

THETA = tuple(f"theta_{i}_{j}" for i in (1, 2) for j in (1, 2, 3))


@register_layer()
class SpatialTransformer(Layer):
    """y[p] = x at theta (p, 1), bilinear, zeros around x (daerduoCarey: st_layer.cpp).

    Bottoms x (N, C, H, W) and theta (N, ..): row by row the numbers of a 2 x 3 matrix that
    the fields ``theta_1_1`` to ``theta_2_3`` do not give. Top (N, C, ``output_H``,
    ``output_W``), by default as large as x. Places are (row, column), row i of n at
    2 i / n - 1, so that -1 is the first pixel and 1 one step beyond the last.

    Errors: theta with another number of values; a type of transform or sampler other than
    affine and bilinear. ``to_compute_dU: false`` only leaves out a gradient.
    """

    type = "SpatialTransformer"
    bottoms = (2, 2)
    parameters = Parameters(
        "st_param",
        """
        optional string transform_type = 1 [default = "affine"];
        optional string sampler_type = 2 [default = "bilinear"];
        optional int32 output_H = 3;
        optional int32 output_W = 4;
        optional bool to_compute_dU = 5 [default = true];
        optional double theta_1_1 = 6;
        optional double theta_1_2 = 7;
        optional double theta_1_3 = 8;
        optional double theta_2_1 = 9;
        optional double theta_2_2 = 10;
        optional double theta_2_3 = 11;
        """,
    )

    size: tuple[int | None, int | None]
    """Height and width of the top; None is that of the bottom."""
    theta: tuple[float | None, ...]
    """The matrix row by row; None comes from the second bottom."""
    learns_image: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        for field, known in (("transform_type", "affine"), ("sampler_type", "bilinear")):
            if getattr(p, field) != known:
                raise net_error(proto, f"the fork knows {known} only", f"st_param.{field}")
        size = [p.output_H if p.HasField("output_H") else None]
        size.append(p.output_W if p.HasField("output_W") else None)
        if any(n is not None and n < 1 for n in size):
            raise net_error(proto, "it must be positive", "st_param.output_H")
        theta = tuple(getattr(p, name) if p.HasField(name) else None for name in THETA)
        return cls(proto.name, (size[0], size[1]), theta, p.to_compute_dU)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, theta = bottoms
        require_axes(self, x)
        wanted = self.theta.count(None)
        if not theta or theta[0] != x[0] or int(np.prod(theta[1:])) != wanted:
            raise self.net_error(
                f"theta of shape {theta} should have {wanted} values for each of {x[0]} images"
            )
        return [(*x[:2], *self._output(x))]

    def _output(self, x: Sequence[int]) -> tuple[int, int]:
        return self.size[0] or x[2], self.size[1] or x[3]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x = inputs[0] if self.learns_image else inputs[0].detach()
        size = tuple(n or inputs[0].shape[2 + i] for i, n in enumerate(self.size))
        return t.runtime.transform_affine(x, inputs[1], self.theta, size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = g.shape(inputs[0])
        height, width = self._output(x)
        check_constant(3 * height * width)
        given = [i for i, value in enumerate(self.theta) if value is None]
        theta = g.op("Reshape", inputs[1], g.const([-1, len(given)], np.int64))
        place = np.zeros((len(given), 6))
        place[np.arange(len(given)), given] = 1
        fixed = [value or 0 for value in self.theta]
        theta = g.op("Add", g.op("MatMul", theta, g.const(place)), g.const(fixed))
        theta = g.op("Reshape", theta, g.const([-1, 2, 3], np.int64))
        rows, columns = (np.arange(n) / n * 2 - 1 for n in (height, width))
        places = np.stack(
            [np.repeat(rows, width), np.tile(columns, height), np.ones(height * width)]
        )
        grid = g.op("Transpose", g.op("MatMul", theta, g.const(places)), perm=[0, 2, 1])
        # GridSample takes (column, row), whose -1 is the edge of the first pixel.
        grid = g.op("Gather", grid, g.const([1, 0], np.int64), axis=2)
        grid = g.op("Add", grid, g.const([1 / x[3], 1 / x[2]]))
        grid = g.op("Reshape", grid, g.const([0, height, width, 2], np.int64))
        return [g.op("GridSample", inputs[0], grid, mode="bilinear", padding_mode="zeros")]
