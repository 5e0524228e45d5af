"""RReLU: Insanity under another name."""

from __future__ import annotations

from caffe2torch.layers import Parameters, register_layer
from caffe2torch.layers.insanity import BOUNDS, Insanity


@register_layer()
class RReLU(Insanity):
    """y = max(x, 0) + min(x, 0) / m, m = (ub - lb) / (log|ub| - log|lb|), as in phase TEST.

    Fork: ducha-aiki/caffe, rrelu_layer.cpp. Defaults, phase TRAIN and errors are Insanity's.
    """

    type = "RReLU"
    parameters = Parameters("rrelu_param", BOUNDS)
