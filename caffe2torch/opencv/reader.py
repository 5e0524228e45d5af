"""``readNetFromCaffe`` and ``readNet``: the arguments of OpenCV's functions."""

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


def readNet(*args: Any, **kwargs: Any) -> Any:
    """Read a net of any framework, as ``cv2.dnn.readNet`` did: Caffe's here, others in OpenCV.

    The arguments are OpenCV's: ``(model, config, framework)``, two paths in either order, or
    ``(framework, bufferModel, bufferConfig)``. A net is Caffe's if ``framework`` is "caffe", or
    a path ends with .caffemodel or .prototxt. Further ones (``engine``) are OpenCV's alone.

    Raises:
        OpenCVError: as ``readNetFromCaffe``.
        cv2.error: OpenCV does not read a net of another framework.
    """
    paths = dict(zip(("model", "config", "framework"), args, strict=False), **kwargs)
    buffers = dict(zip(("framework", "bufferModel", "bufferConfig"), args, strict=False), **kwargs)
    model, config = paths.get("model"), paths.get("config", "")
    if isinstance(model, (str, os.PathLike)) and isinstance(config, (str, os.PathLike)):
        model, config = os.fspath(model), os.fspath(config)
        kinds = [path.rpartition(".")[2] for path in (model, config)]
        is_caffe = str(paths.get("framework")).lower() == "caffe"
        if is_caffe or {"caffemodel", "prototxt"}.intersection(kinds):
            if kinds[0] == "prototxt" or kinds[1] == "caffemodel":
                model, config = config, model
            return readNetFromCaffe(config, model)
    elif str(buffers.get("framework")).lower() == "caffe":
        return readNetFromCaffe(buffers.get("bufferConfig"), buffers.get("bufferModel"))
    import cv2

    return cv2.dnn.readNet(*args, **kwargs)


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
