"""DataAugmentation: FlowNet's images less their mean, as they are in a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    constant_filler,
    register_layer,
    unsupported,
)
from caffe2torch.layers._grids import Matrix, apply_onnx, triangle, weights
from caffe2torch.layers._spatial import require_axes

_RANDOM = (
    "mirror translate rotate zoom squeeze translate_x translate_y gamma brightness contrast color "
    "lmult_pow lmult_mult lmult_add sat_pow sat_mult sat_add col_pow col_mult col_add ladd_pow "
    "ladd_mult ladd_add col_rotate fog_amount fog_size motion_blur_angle motion_blur_size "
    "shadow_angle shadow_distance shadow_strength noise"
).split()
_NUMBERS = (*range(10, 17), *range(35, 39), *range(20, 33), *range(100, 108))


@register_layer()
class DataAugmentation(Layer):
    """y = the middle of x, less a mean: what is done to images in a test.

    FlowNet: data_augmentation_layer.cpp, .cu.

    Bottom (N, C, H, W), top (N, C, crop_height, crop_width) if both are given, else as the
    bottom. The middle starts at (H - H') / 2 and is read bilinearly at places of at most
    H - 1.05: so the last row and column of an uncropped image are mixed with the one before.

    With ``recompute_mean`` n the blobs are the number of iterations (1, 1, 1, 1), the mean
    image (1, C, H', W') and the mean of each channel (1, C, 1, 1); ``mean_per_pixel`` (default
    true) says which mean is subtracted. Fewer iterations than n are refused, as the layer would
    go on computing the mean from what it sees. Without, three ``mean`` values are subtracted if
    ``mean_per_pixel`` is false, and the one blob is the number of iterations.

    Refused: phase TRAIN and augment_during_test with random changes, coefficients as a
    second bottom or top.
    """

    type = "DataAugmentation"
    parameters = Parameters(
        "augmentation_param",
        """
        optional uint32 crop_width = 33 [default = 0];
        optional uint32 crop_height = 34 [default = 0];
        optional string write_augmented = 2 [default = ""];
        optional float max_multiplier = 3 [default = 255];
        optional bool augment_during_test = 4 [default = false];
        optional uint32 recompute_mean = 5 [default = 0];
        optional string write_mean = 6 [default = ""];
        optional bool mean_per_pixel = 7 [default = true];
        repeated float mean = 18;
        optional string mode = 8 [default = "add"];
        optional uint32 bottomwidth = 80 [default = 0];
        optional uint32 bottomheight = 81 [default = 0];
        optional uint32 num = 82 [default = 0];
        repeated float chromatic_eigvec = 83;
        message RandomGeneratorParameter {
            optional string rand_type = 1 [default = "uniform"];
            optional bool exp = 2 [default = false];
            optional float mean = 4 [default = 0];
            optional float spread = 5 [default = 0];
            optional float prob = 6 [default = 1];
            optional bool apply_schedule = 7 [default = true];
            optional bool discretize = 8 [default = false];
            optional float multiplier = 9 [default = 1];
        }
        """
        + "".join(
            f"optional RandomGeneratorParameter {name} = {number};"
            for name, number in zip(_RANDOM, _NUMBERS, strict=True)
        ),
    )
    bottoms = (1, 2)
    tops = (1, 2)
    buffers = frozenset({"iterations", "mean_image", "mean"})

    crop: Shape | None
    """Height and width."""
    iterations: int
    per_pixel: bool
    values: tuple[float, ...]
    """To subtract from the channels, if no mean is learned."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if len(proto.bottom) > 1 or len(proto.top) > 1:
            raise unsupported(
                proto, "coefficients as a second bottom or top are not implemented", "bottom"
            )
        random = [name for name in _RANDOM if param.HasField(name)]
        trains = proto.phase == enum_value("Phase", "TRAIN") or param.augment_during_test
        if random and trains:
            raise unsupported(
                proto,
                "the image is changed at random; convert the TEST phase, without "
                "augment_during_test",
                f"augmentation_param.{random[0]}",
            )
        cropped = param.HasField("crop_width") and param.HasField("crop_height")
        plain = not param.recompute_mean and not param.mean_per_pixel and len(param.mean) == 3
        return cls(
            name=proto.name,
            crop=(param.crop_height, param.crop_width) if cropped else None,
            iterations=param.recompute_mean,
            per_pixel=param.mean_per_pixel,
            values=tuple(param.mean) if plain else (),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        if self.values and shape[1] != 3:
            raise self.net_error(f"three values for {shape[1]} channels", "augmentation_param.mean")
        if self.crop is None:
            return [shape]
        if any(not 0 < n <= m for n, m in zip(self.crop, shape[2:], strict=True)):
            raise self.net_error(
                f"a bottom of shape {shape} cannot be cropped to {self.crop}",
                "augmentation_param.crop_height",
            )
        return [(*shape[:2], *self.crop)]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        iterations = BlobSpec("iterations", (1,) * 4, constant_filler(self.iterations), True)
        if not self.iterations:
            return [iterations]
        (top,), zero = self.infer_shapes(bottoms), constant_filler(0)
        return [
            iterations,
            BlobSpec("mean_image", (1, *top[1:]), zero, False, any_shape=not self.per_pixel),
            BlobSpec("mean", (1, top[1], 1, 1), zero, False),
        ]

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        count = float(np.ravel(blobs[0])[0])
        # A net without weights has zeros that take no memory.
        if count < self.iterations and blobs[0].strides[0]:
            raise self.unsupported(
                f"the mean was computed in {count:g} iterations of {self.iterations}, and the "
                f"layer would go on with it; set it to {count:g}",
                "augmentation_param.recompute_mean",
            )
        return super().import_blobs(blobs, bottoms)

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        (top,) = self.infer_shapes(bottoms)
        shape = top[1:] if self.iterations else ()
        return t.runtime.DataMean(shape, per_pixel=self.per_pixel)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        x = inputs[0]
        if self.crop is not None:
            x = t.runtime.centre_crop(x, self.crop)
        if self.values:
            x = t.runtime.shift_channels(x, 1.0, [-value for value in self.values])
        return t.module(x)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        if self.crop is not None:
            sizes = zip(g.shape(x)[2:], self.crop, strict=True)
            x = apply_onnx(g, x, *(_middle(n, out) for n, out in sizes))
        if self.values:
            x = g.op("Sub", x, g.const(np.reshape(self.values, (1, 3, 1, 1))))
        if self.iterations:
            return [g.op("Sub", x, g.params["mean_image" if self.per_pixel else "mean"])]
        return [g.op("Identity", x) if x == inputs[0] else x]


def _middle(size: int, out: int) -> Matrix:
    places = np.clip(np.arange(out) + (size - out) / 2, 0, size - 1.05)
    return weights(size, places, 1.0, triangle)
