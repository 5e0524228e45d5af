"""VoxelSoftmax: softmax over the channels of a volume."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, register_layer
from caffe2torch.layers.softmax import Softmax


@register_layer()
class VoxelSoftmax(Softmax):
    """y = exp(x - max x) / sum exp(x - max x) along axis 1 of (N, C, L, H, W).

    Fork: C3D 1.0, voxel_wise_softmax_layer.cpp, as ``VOXEL_SOFTMAX`` of a V1 net.
    """

    type = "VoxelSoftmax"

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, axis=1)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) != 5:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has not five axes")
        return [bottoms[0]]
