"""Layers of public forks, whose parameter messages have no number of their own.

Each fork gave its layers the next free number of ``LayerParameter``, so that the same
number means another message in another fork, or in BVLC Caffe. The type of the layer says
which message is meant.
"""

from __future__ import annotations

FORK_FIELDS = {
    "ROIPooling": "roi_pooling_param",
    "PSROIPooling": "psroi_pooling_param",
    "Interp": "interp_param",
    "Upsample": "upsample_param",
    "ShuffleChannel": "shuffle_channel_param",
    "Reorg": "reorg_param",
    "ReLU6": "relu6_param",
    "BN": "bn_param",
}
"""Layer type to the field of our ``LayerParameter`` that holds its parameters."""

FIRST_FORK_NUMBER = 102
"""Numbers from here on are parameter messages of one layer type; lower ones are common."""
