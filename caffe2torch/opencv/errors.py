"""The error that both OpenCV's users and ours catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from caffe2torch.errors import Caffe2TorchError, UnsupportedLayerError

REGISTERED = (
    "A class that was given to cv2.dnn_registerLayer is not used here; docs/adding-a-layer.md says "
    "how to write the layer as a plugin, which is imported before the net is read."
)


class OpenCVError(Caffe2TorchError, cv2.error):
    """What ``cv2.dnn`` would raise ``cv2.error`` for; ``except cv2.error`` catches it."""


@contextmanager
def as_opencv_error() -> Iterator[None]:
    """Turn every other Caffe2TorchError of the block into an OpenCVError of the same words."""
    try:
        yield
    except OpenCVError:
        raise
    except UnsupportedLayerError as error:
        raise OpenCVError(f"{error} {REGISTERED}") from error
    except Caffe2TorchError as error:
        raise OpenCVError(str(error)) from error
