"""RegionPooling: the maxima of rings of a map, on a grid of fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Parameters, Reads, TorchBuilder, register_layer
from caffe2torch.layers._regions import check_regions, pooled_size


@register_layer()
class RegionPooling(Layer):
    """The maxima of the bins of each region, 0 at least, outside of the region's inner box.

    Fork: gidariss/caffe_LocNet, region_pooling_layer.cpp. Bottoms: a map (N, C, H, W), regions
    (R, 9), rows (image, the outer box, the inner box), boxes x1, y1, x2, y2 in the pixels of the
    image. Top (R, C, ``pooled_h``, ``pooled_w``). A box has the cells from
    floor((x1 + 1 + offset) scale + 1/2) to ceil((x2 + 1 - offset) scale - 1/2), with
    ``spatial_scale`` (default 1) and ``offset`` (default 6), or the one in the middle if these
    cross. Its bins are those of ROIPooling. Cells strictly within the inner box do not count.
    There is no ONNX form. An image index outside the batch is an error at run time.
    """

    type = "RegionPooling"
    bottoms = (2, 2)
    reads = Reads(slice(1, None))
    parameters = Parameters(
        "region_pooling_param",
        """
        optional uint32 pooled_h = 1 [default = 0];
        optional uint32 pooled_w = 2 [default = 0];
        optional float spatial_scale = 3 [default = 1];
        optional float offset = 4 [default = 6];
        """,
    )

    pooled: tuple[int, int]
    spatial_scale: float
    offset: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        size = pooled_size(proto, cls.parameters)
        return cls(proto.name, size, param.spatial_scale, param.offset)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        check_regions(self, bottoms[0], bottoms[1], columns=9)
        return [(bottoms[1][0], bottoms[0][1], *self.pooled)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, regions = inputs
        x = t.runtime.comparable(x) if self.non_finite else x
        return t.runtime.region_pool(x, regions, self.pooled, self.spatial_scale, self.offset)
