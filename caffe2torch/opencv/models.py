"""The classes of ``cv2.dnn`` that go from an image to an answer.

They stand on ``setInput``, ``forward`` and names alone, so they take a net of ``readNetFromCaffe``
and one of OpenCV's own. They follow OpenCV 4's ``modules/dnn/src/model.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from caffe2torch.graph import Array
from caffe2torch.opencv.errors import OpenCVError
from caffe2torch.opencv.net import Net
from caffe2torch.opencv.reader import readNet

if TYPE_CHECKING:
    from typing_extensions import Self

IM_INFO_SCALE = 1.6
"""What OpenCV gives Faster R-CNN for the factor that its image was resized by."""


class Model:
    """A net, and how its input is made from an image: scale * (resized image - mean).

    Args:
        model: a net, or a path as for ``readNet``.
        config: the other path.

    The size is the net's own if it says one. The methods that set something give the model back,
    but for ``setInputParams``.
    """

    def __init__(self, model: Any, config: Any = "") -> None:
        is_net = hasattr(model, "getUnconnectedOutLayersNames")
        self._net = model if is_net else readNet(model, config)
        self._params = cv2.dnn.Image2BlobParams()
        self._params.scalefactor = (1.0, 1.0, 1.0, 1.0)
        if isinstance(self._net, Net):
            first = next(iter(self._net.input_shapes.values()), ())
            if len(first) == 4:
                self.setInputSize(first[3], first[2])
        self._outputs: tuple[str, ...] | None = None

    def setInputSize(self, *size: Any) -> Self:
        """Width and height, as a pair or as two numbers."""
        width, height = size[0] if len(size) == 1 else size
        self._params.size = (int(width), int(height))
        return self

    def setInputMean(self, mean: Any) -> Self:
        """One number a channel; a single number is the first channel's."""
        self._params.mean = mean
        return self

    def setInputScale(self, scale: Any) -> Self:
        """A factor for all channels, or one for each."""
        values = np.zeros(4)
        given = np.atleast_1d(np.asarray(scale, np.float64)).reshape(-1)[:4]
        values[: given.size] = given
        self._params.scalefactor = (values if values[1:].any() else np.full(4, values[0])).tolist()
        return self

    def setInputCrop(self, crop: bool) -> Self:
        """Whether the aspect ratio is kept and the middle is cut out."""
        mode = cv2.dnn.DNN_PMODE_CROP_CENTER if crop else cv2.dnn.DNN_PMODE_NULL
        self._params.paddingmode = mode
        return self

    def setInputSwapRB(self, swapRB: bool) -> Self:
        """Whether the first and the last channel change places."""
        self._params.swapRB = bool(swapRB)
        return self

    def setInputParams(
        self,
        scale: float = 1.0,
        size: Any = (0, 0),
        mean: Any = (0, 0, 0, 0),
        swapRB: bool = False,
        crop: bool = False,
    ) -> None:
        """All of it at once; what is not given has OpenCV's default, the size too."""
        self.setInputScale([scale] * 4).setInputSize(size).setInputMean(mean)
        self.setInputSwapRB(swapRB).setInputCrop(crop)

    def setOutputNames(self, outNames: Sequence[str]) -> Self:
        """The layers whose outputs ``predict`` gives; by default those that no layer reads."""
        self._outputs = tuple(outNames)
        return self

    def setPreferableBackend(self, backendId: int) -> Self:
        """Of the net."""
        self._net.setPreferableBackend(backendId)
        return self

    def setPreferableTarget(self, targetId: int) -> Self:
        """Of the net."""
        self._net.setPreferableTarget(targetId)
        return self

    def enableWinograd(self, useWinograd: bool) -> Self:
        """Of the net."""
        self._net.enableWinograd(useWinograd)
        return self

    def predict(self, frame: Any, outs: Any = None) -> tuple[Array, ...]:
        """The outputs for an image (height, width, channels), blue first."""
        if min(self._params.size) <= 0:
            raise OpenCVError("the size of the input is not known; call setInputSize first.")
        self._net.setInput(cv2.dnn.blobFromImageWithParams(frame, self._params))
        if isinstance(self._net, Net) and self._net.getLayer(0).outputNameToIndex("im_info") > -1:
            width, height = self._params.size
            self._net.setInput(np.array([[height, width, IM_INFO_SCALE]], np.float32), "im_info")
        names = self._outputs or self._net.getUnconnectedOutLayersNames()
        return tuple(self._net.forward(list(names)))

    def _single(self, frame: Any) -> Array:
        outputs = self.predict(frame)
        if len(outputs) != 1:
            raise OpenCVError(
                f"the net has {len(outputs)} outputs, where one is needed; choose it with "
                "setOutputNames."
            )
        return outputs[0]


class ClassificationModel(Model):
    """A net that gives a number for each class."""

    _softmax = False

    def setEnableSoftmaxPostProcessing(self, enable: bool) -> Self:
        """Whether a softmax is taken of the output, for nets that end without one."""
        self._softmax = bool(enable)
        return self

    def getEnableSoftmaxPostProcessing(self) -> bool:
        """Whether it is."""
        return self._softmax

    def classify(self, frame: Any) -> tuple[int, float]:
        """The likeliest class of an image, and its number."""
        scores = self._single(frame).reshape(-1)
        if self._softmax:
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        best = int(scores.argmax())
        return best, float(scores[best])


class SegmentationModel(Model):
    """A net that gives a map for each class."""

    def segment(self, frame: Any) -> Array:
        """The likeliest class of each pixel of the map, uint8."""
        return np.asarray(self._single(frame)[0].argmax(axis=0), np.uint8)


class KeypointsModel(Model):
    """A net that gives a map for each keypoint and a last one for the background, or places."""

    def estimate(self, frame: Any, thresh: float = 0.5) -> Array:
        """The places (x, y) in the image, float32; (-1, -1) where a map has no peak above thresh.

        Of a net that gives places, in a blob (images, keypoints, 2), they are those.
        """
        output = self._single(frame)
        if output.ndim == 3 and output.shape[2] >= 2:
            return np.array(output[0, :, :2], np.float32)
        if output.ndim != 4:
            raise OpenCVError(f"an output of the shape {output.shape} is no map of keypoints.")
        maps = output[0, :-1]
        best = maps.reshape(len(maps), -1).argmax(axis=1)
        y, x = np.unravel_index(best, maps.shape[1:])
        height, width = (np.float32(frame.shape[axis]) for axis in (0, 1))
        factors = width / np.float32(maps.shape[2]), height / np.float32(maps.shape[1])
        points = np.stack([x * factors[0], y * factors[1]], axis=1).astype(np.float32)
        points[maps.max(axis=(1, 2)) <= thresh] = -1
        return points


class DetectionModel(Model):
    """A net that ends with DetectionOutput (SSD)."""

    _across = False

    def setNmsAcrossClasses(self, value: bool) -> Self:
        """Accepted; it is for nets that end with a Region layer, which Caffe does not have."""
        self._across = bool(value)
        return self

    def getNmsAcrossClasses(self) -> bool:
        """What was set."""
        return self._across

    def detect(
        self, frame: Any, confThreshold: float = 0.5, nmsThreshold: float = 0.0
    ) -> tuple[Array, Array, Array]:
        """Classes, confidences and boxes (left, top, width, height) in pixels of the image.

        The layer has suppressed boxes by its own threshold, so ``nmsThreshold`` changes nothing,
        as in OpenCV. Where there are none, all three are empty tuples.
        """
        outputs = self.predict(frame)
        last = self._net.getLayer(self._net.getLayerId(self._net.getLayerNames()[-1]))
        if last.type != "DetectionOutput":
            raise OpenCVError(
                f"the net ends with a layer of type {last.type!r}; boxes are read of "
                "'DetectionOutput' alone. Take its outputs from predict."
            )
        rows = np.concatenate([output.reshape(-1, 7) for output in outputs])
        rows = rows[rows[:, 2] >= np.float32(confThreshold)]
        if not len(rows):
            return (), (), ()  # type: ignore[return-value]
        boxes = np.array([_box(row[3:], *frame.shape[:2]) for row in rows], np.int32)
        return rows[:, 1].astype(np.int32), rows[:, 2], boxes


def _box(corners: Array, rows: int, columns: int) -> list[int]:
    """Left, top, width and height within an image, of corners in pixels or in parts of it."""
    left, top, right, bottom = (int(value) for value in corners)
    if right - left + 1 <= 2 or bottom - top + 1 <= 2:
        scale = np.array([columns, rows, columns, rows], np.float32)
        left, top, right, bottom = (int(value) for value in corners * scale)
    width, height = right - left + 1, bottom - top + 1
    left, top = max(0, min(left, columns - 1)), max(0, min(top, rows - 1))
    return [left, top, max(1, min(width, columns - left)), max(1, min(height, rows - top))]
