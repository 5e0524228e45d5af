"""The ONNX reader of OpenCV 4's ``dnn`` module."""

from __future__ import annotations

from caffe2torch.consumers import register_consumer
from caffe2torch.consumers.opencv5 import OpenCV5


@register_consumer("opencv4")
class OpenCV4(OpenCV5):
    """It has no blobs of fewer than two axes, and more operators that it reads otherwise.

    Of 346 recorded nets, 4.14 runs 257. It has a reader of Caffe's own files too.
    """

    major = 4
    title = "OpenCV 4"
    packages = ("opencv-python-headless==4.14.0.94",)
    avoid = ""
    must_run = True
