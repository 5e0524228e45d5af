"""CuDNNBatchNorm: batch normalisation with scale and bias by cuDNN."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers import BlobSpec, Layer, Parameters, register_layer
from caffe2torch.layers._normalization import CUDNN_MIN_EPS, ScaledNorm


@register_layer()
class CuDNNBatchNorm(ScaledNorm):
    """``ScaledNorm`` with the blobs scale, bias, mean and variance, each (1, C, 1, 1).

    Forks: hujie-frank/GENet and implus/SKNet, cudnn_batch_norm_layer.cpp. Phase TRAIN takes
    the statistics of the batch unless ``frozen``; phase TEST and ``frozen`` take the running
    ones. eps is at least 1e-5; ``momentum`` is 0.999 by default.
    """

    type = "CuDNNBatchNorm"
    parameters = Parameters(
        "cudnn_batch_norm_param",
        """
        optional bool frozen = 1;
        optional float momentum = 2 [default = 0.999];
        optional float eps = 3 [default = 1e-5];
        optional FillerParameter scale_filler = 4;
        optional FillerParameter bias_filler = 5;
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        training = proto.phase == enum_value("Phase", "TRAIN")
        return cls(
            name=proto.name,
            by_batch=False if param.frozen else True if training else None,
            eps=max(param.eps, CUDNN_MIN_EPS),
            momentum=param.momentum,
            fillers=(param.scale_filler, param.bias_filler),
        )

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        channels = bottoms[0][1]
        return self.own_specs((1, channels, 1, 1), ((channels,),))
