"""``caffe.Detector``: a net that classifies windows of images, as R-CNN does (detector.py)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.pycaffe import io
from caffe2torch.pycaffe.net import Net

Array = npt.NDArray[Any]


class Detector(Net):
    """A net in phase TEST with a Transformer for its first input, which is square.

    Args:
        model_file: the prototxt.
        pretrained_file: the weights; None for those of the fillers.
        mean: one value a channel, or an image (K, H, W).
        input_scale: factor after the mean.
        raw_scale: factor before the mean, 255 for a net that was trained on 0 to 255.
        channel_swap: order of the channels, (2, 1, 0) for a net that was trained on BGR.
        context_pad: width of the border around a window, in pixels of the net's input.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str | None,
        mean: Array | None = None,
        input_scale: Any = None,
        raw_scale: Any = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, 1, weights=pretrained_file)
        name = self.inputs[0]
        self.transformer = io.Transformer._of(
            name, self.blobs[name].data.shape, mean, input_scale, raw_scale, channel_swap
        )
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the border that ``crop`` adds, and ``crop_mean``, which stands outside of images."""
        name = self.inputs[0]
        back = np.argsort(self.transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].data.shape[1:])[back]
        self.context_pad = context_pad
        if context_pad:
            self.crop_mean: Array = np.zeros(self.crop_dims, np.float32)
            if name in self.transformer.mean:
                self.crop_mean = self.transformer.mean[name].transpose(back)
                if name in self.transformer.channel_swap:
                    order = np.argsort(self.transformer.channel_swap[name])
                    self.crop_mean = self.crop_mean[:, :, order]
                scale = self.transformer.raw_scale.get(name)
                if scale is not None:
                    self.crop_mean = self.crop_mean / scale

    def crop(self, im: Array, window: Sequence[float]) -> Array:
        """A window (ymin, xmin, ymax, xmax) of an image (H, W, K).

        With ``context_pad`` it is the net's input, (crop_dims): the window, grown so that the
        border has that many pixels, and the mean where it reaches out of the image.

        Raises ValueError if such a window lies outside of the image.
        """
        if not self.context_pad:
            top, left, bottom, right = map(int, window)
            return im[top:bottom, left:right]
        size = self.blobs[self.inputs[0]].width
        corner, opposite = np.array(window[:2], float), np.array(window[2:], float)
        half = (opposite - corner + 1) / 2
        grown = size / (size - 2 * self.context_pad) * half  # In Caffe's order: it is rounded.
        low = np.round(corner + half - grown)
        high = np.round(corner + half + grown)
        scale = size / (high - low + 1)
        pad = np.round(np.maximum(0, -low) * scale).astype(int)
        limits = im.shape[:2]
        low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
        (y0, x0), (y1, x1) = low.astype(int), high.astype(int)
        if y1 <= y0 or x1 <= x0:
            raise ValueError(f"the window {list(window)} lies outside of the image {limits}")
        shape = np.minimum(np.round((high - low + 1) * scale).astype(int), size - pad)
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        crop[pad[0] : pad[0] + shape[0], pad[1] : pad[1] + shape[1]] = io.resize_image(
            im[y0:y1, x0:x1], shape
        )
        return crop

    def detect_windows(self, images_windows: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
        """Classify windows, given as (file name, windows) for each image.

        Returns a dict with ``window``, ``prediction`` (of the net's first output) and
        ``filename`` for each window. Raises IndexError without windows.
        """
        found = []
        crops = []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                crops.append(self.crop(image, window))
                found.append({"window": window, "filename": filename})
        name = self.inputs[0]
        size = self.blobs[name].data.shape[2:]
        fed = np.zeros((len(crops), crops[0].shape[2], *size), np.float32)
        for index, crop in enumerate(crops):
            fed[index] = self.transformer.preprocess(name, crop)
        predictions = self.forward_all(**{name: fed})[self.outputs[0]]
        for entry, prediction in zip(found, predictions, strict=True):
            entry["prediction"] = prediction
        return found

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """Classify the windows that selective search proposes for each image.

        Raises ModuleNotFoundError without selective_search_ijcv_with_python, which needs MATLAB.
        """
        try:
            import selective_search_ijcv_with_python as selective_search
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "detect_selective_search needs the package selective_search_ijcv_with_python, "
                "which no registry has; make windows yourself (opencv-contrib-python has "
                "cv2.ximgproc.segmentation) and give them to detect_windows",
                name=error.name,
            ) from None
        names = [os.path.abspath(name) for name in image_fnames]
        windows = selective_search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))
