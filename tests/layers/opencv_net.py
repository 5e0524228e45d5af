"""One layer run by OpenCV, whose extensions of Caffe's layers have no other reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest


def run_opencv(layer_text: str, arrays: Sequence[Any]) -> Any:
    """The top of a layer of these bottoms; skips where OpenCV reads no Caffe nets."""
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV reads no Caffe nets")
    text, bottoms = "", ""
    for index, array in enumerate(arrays):
        dims = " ".join(f"dim: {size}" for size in array.shape)
        text += f'input: "b{index}" input_shape {{ {dims} }}\n'
        bottoms += f' bottom: "b{index}"'
    text += f'layer {{ name: "t" {bottoms} top: "t" {layer_text} }}'
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8))
    for index, array in enumerate(arrays):
        net.setInput(array, f"b{index}")
    return net.forward()
