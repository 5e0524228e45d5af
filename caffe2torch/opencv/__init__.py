"""``readNetFromCaffe`` for programs whose OpenCV no longer has it.

One line changes, the rest of the program stays::

    from caffe2torch.opencv import readNetFromCaffe

    net = readNetFromCaffe("deploy.prototxt", "net.caffemodel")
    net.setInput(cv2.dnn.blobFromImage(image, 1.0, (227, 227), (104, 117, 123)))
    probabilities = net.forward()

The net follows Caffe where OpenCV's reader did not; ``docs/opencv.md`` lists the differences.
"""

from caffe2torch.opencv.errors import OpenCVError
from caffe2torch.opencv.layers import Layer
from caffe2torch.opencv.models import (
    ClassificationModel,
    DetectionModel,
    KeypointsModel,
    Model,
    SegmentationModel,
)
from caffe2torch.opencv.net import Net
from caffe2torch.opencv.reader import readNet, readNetFromCaffe

__all__ = [
    "ClassificationModel",
    "DetectionModel",
    "KeypointsModel",
    "Layer",
    "Model",
    "Net",
    "OpenCVError",
    "SegmentationModel",
    "readNet",
    "readNetFromCaffe",
]
