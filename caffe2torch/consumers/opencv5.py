"""The ONNX reader of OpenCV 5's ``dnn`` module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caffe2torch.consumers import Consumer, register_consumer

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Shape


@register_consumer("opencv5")
class OpenCV5(Consumer):
    """Its arrays have an axis at least: a scalar comes as (1,)."""

    major = 5
    title = "OpenCV 5"
    packages = ("opencv-python-headless==5.0.0.93",)
    source = "what OpenCV 5.0 was measured to read"
    load = 'cv2.dnn.readNetFromONNX("net.onnx")'
    avoid = (
        "Do not run a net with DetectionOutput twice, but read it anew for each image: OpenCV 5.0 "
        "keeps the number of boxes of the first run, and fails or leaves boxes out."
    )

    def version(self) -> str | None:
        try:
            import cv2
        except ImportError:
            return None
        version = str(cv2.__version__)
        return version if int(version.split(".")[0]) == self.major else None

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import cv2

        cv2.setNumThreads(1)
        net = cv2.dnn.readNetFromONNX(str(model))
        for name, array in inputs.items():
            net.setInput(array, name)
        found = dict(zip(outputs, net.forward(list(outputs)), strict=True))
        return {
            name: value.reshape(()) if outputs[name] == () and value.shape == (1,) else value
            for name, value in found.items()
        }
