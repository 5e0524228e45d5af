"""V1 to V2: ``layers { type: CONVOLUTION }`` becomes ``layer { type: "Convolution" }``."""

from __future__ import annotations

from typing import Any

from caffe2torch.io.schema import Message, enum_name, message_class
from caffe2torch.passes._fields import put_field

TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}
"""V1 LayerType names and the V2 type each becomes."""

PARAM_SPEC = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""V1 lists, one value a learned blob, and the field of ``param`` each becomes."""


def upgrade_v1(net: Message) -> None:
    """Upgrade the V1 layers of ``net``, in place, to V2."""
    net.layer.extend([_upgrade_layer(v1) for v1 in net.layers])
    del net.layers[:]


def _upgrade_layer(v1: Message) -> Message:
    v2 = message_class("LayerParameter")()
    for descriptor, value in v1.ListFields():
        field = descriptor.name
        if field == "type":
            v2.type = TYPES[enum_name(v1, "type")]
        elif field in PARAM_SPEC:
            _put_param_specs(v2, PARAM_SPEC[field], value)
        else:
            put_field(v2, field, value)
    return v2


def _put_param_specs(v2: Message, field: str, values: list[Any]) -> None:
    while len(v2.param) < len(values):
        v2.param.add()
    for spec, value in zip(v2.param, values, strict=False):
        setattr(spec, field, value)
