"""``readNetFromCaffe``: the arguments of OpenCV's function."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from caffe2torch.io.files import Source
from caffe2torch.opencv.errors import OpenCVError, as_opencv_error
from caffe2torch.opencv.net import Net
from caffe2torch.opencv.plan import ENGINES


def readNetFromCaffe(
    prototxt: Any = None,
    caffeModel: Any = None,
    *,
    bufferProto: Any = None,
    bufferModel: Any = None,
    engine: str | None = None,
) -> Net:
    """Read a Caffe net; what ``cv2.dnn.readNetFromCaffe`` did.

    Args:
        prototxt: the path of the prototxt, or its content as bytes or a uint8 array.
        caffeModel: the path of the caffemodel, or its content. Without it, or with ``""``,
            the net has only weights that need no file.
        bufferProto: the content of the prototxt, by OpenCV's other name for it.
        bufferModel: the content of the caffemodel, likewise.
        engine: ``"opencv"`` or ``"onnxruntime"`` to insist on one. None, the default, takes
            OpenCV where it computes what ONNX Runtime does, and ONNX Runtime where it does
            not.

    Raises:
        OpenCVError: a file or the net is not usable. It is a ``cv2.error`` as well as a
            Caffe2TorchError.
    """
    if engine not in (None, *ENGINES):
        raise OpenCVError(f"engine {engine!r} is none of {', '.join(ENGINES)}.")
    net = _source(prototxt if bufferProto is None else bufferProto, "prototxt")
    weights = _source(caffeModel if bufferModel is None else bufferModel, "caffeModel")
    if net is None:
        raise OpenCVError("readNetFromCaffe needs the argument 'prototxt' (or 'bufferProto').")
    with as_opencv_error():
        return Net(net, weights, engine)


def _source(value: Any, argument: str) -> Source | None:
    """A path, or the bytes of a buffer; None for nothing."""
    if value is None or (isinstance(value, (str, os.PathLike)) and not os.fspath(value)):
        return None
    if isinstance(value, (str, os.PathLike)):
        return value
    buffer = np.asarray(value if isinstance(value, (list, tuple, np.ndarray)) else _view(value))
    is_bytes = buffer.ndim and buffer.dtype.kind in "iu" and ((buffer >= 0) & (buffer < 256)).all()
    if not is_bytes:
        raise OpenCVError(
            f"{argument}: a {type(value).__name__} is neither a path nor a buffer; give a str, "
            "bytes or a uint8 array."
        )
    return buffer.astype(np.uint8).tobytes()


def _view(value: Any) -> Any:
    try:
        return memoryview(value)
    except TypeError:
        return value  # No array of numbers, which is refused.
