"""InnerProduct: the fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    canonical_axis,
    net_error,
    register_layer,
    unsupported,
)


@register_layer()
class InnerProduct(Layer):
    """y[m, n] = sum_k weight[n, k] * x[m, k] + bias[n] (Caffe: inner_product_layer.cpp).

    The axes from ``axis`` (default 1) on are one vector of K numbers; the axes before it
    stay, so the top is (*bottom[:axis], num_output). Weight (num_output, K), with
    ``transpose`` (K, num_output); bias (num_output), unless ``bias_term`` is false. The
    torch and ONNX weight is always (num_output, K).

    happynear's fork (inner_product_layer.cpp) has ``normalize``: each pass first puts weight[n] /
    sqrt(sum_k weight[n, k] ** 2 + 1e-6) in place of the weights. They are imported so, as its
    first pass makes them; a later one changes them by 1e-6 at most. Refused: ``normalize`` in
    phase TRAIN, where it undoes a part of every step, and with ``transpose``, where that code
    takes rows for columns.
    """

    type = "InnerProduct"
    parameters = Parameters("inner_product_param", "optional bool normalize = 7 [default = false];")

    num_output: int
    axis: int
    bias_term: bool
    transpose: bool
    normalize: bool
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.inner_product_param
        if not param.num_output:
            raise net_error(proto, "must be positive", "inner_product_param.num_output")
        normalize = InnerProduct.parameters.of(proto).normalize
        if normalize and (param.transpose or enum_name(proto, "phase") == "TRAIN"):
            where = "of a transposed weight" if param.transpose else "in phase TRAIN"
            raise unsupported(
                proto, f"true has no conversion {where}", "inner_product_param.normalize"
            )
        return cls(
            name=proto.name,
            num_output=param.num_output,
            axis=param.axis,
            bias_term=param.bias_term,
            transpose=param.transpose,
            normalize=normalize,
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_filler_given=param.HasField("weight_filler"),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [(*bottoms[0][: self._axis(len(bottoms[0]))], self.num_output)]

    def _axis(self, num_axes: int) -> int:
        return canonical_axis(self, self.axis, num_axes, "inner_product_param.axis")

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        k = prod(bottoms[0][self._axis(len(bottoms[0])) :])
        shape = (k, self.num_output) if self.transpose else (self.num_output, k)
        weight = BlobSpec("weight", shape, self.weight_filler, self.weight_filler_given)
        bias = BlobSpec("bias", (self.num_output,), self.bias_filler, given=True)
        return (weight, bias) if self.bias_term else (weight,)

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        named = dict(super().import_blobs(blobs, bottoms))
        if self.normalize:
            weight = named["weight"].astype(np.float64)
            norms = np.sqrt((weight**2).sum(axis=1, keepdims=True) + 1e-6)
            named["weight"] = (weight / norms).astype(np.float32)
        return self._transposed(named) if self.transpose else named

    def export_blobs(
        self, params: Mapping[str, FloatArray], bottoms: Sequence[Shape]
    ) -> Sequence[FloatArray]:
        named = self._transposed(params) if self.transpose else params
        return super().export_blobs(named, bottoms)

    @staticmethod
    def _transposed(params: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
        return {**params, "weight": np.ascontiguousarray(params["weight"].T)}

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        size = prod(bottoms[0][self._axis(len(bottoms[0])) :])
        return t.nn.Linear(size, self.num_output, bias=self.bias_term)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        num_axes = len(bottoms[0])
        axis = self._axis(num_axes)
        x = inputs[0] if axis == num_axes - 1 else t.torch.flatten(inputs[0], axis)
        return self._product(t, x)

    def _product(self, t: TorchBuilder, x: Any) -> Any:
        return t.module(x)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, shape = inputs[0], g.shape(inputs[0])
        axis = self._axis(len(shape))
        if len(shape) != axis + 1 or not axis:
            x = g.op("Reshape", x, g.const([0] * axis + [-1] if axis else [1, -1], np.int64))
        if axis < 2:
            y = g.op("Gemm", x, self._weight_onnx(g), g.params.get("bias", ""), transB=1)
            return [y if axis else g.op("Reshape", y, g.const([-1], np.int64))]
        y = g.op("MatMul", x, g.op("Transpose", self._weight_onnx(g), perm=[1, 0]))
        return [g.op("Add", y, g.params["bias"]) if self.bias_term else y]

    def _weight_onnx(self, g: OnnxBuilder) -> str:
        return g.params["weight"]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(bottoms[0]) * self.num_output
