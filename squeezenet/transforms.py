"""From a decoded image to the net's input, in training (at random) and in test."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from caffe2torch.graph import FloatArray
from caffe2torch.images import Pixels
from caffe2torch.io.blob import read_mean
from caffe2torch.preprocessing import PROTOCOLS, Preprocessing, Random, mean_at, normalise, to_input
from squeezenet.preprocess import CROP, PREPROCESSING

LUMA = np.array([0.114, 0.587, 0.299], np.float32)
"""Weights of blue, green and red in the grey value (ITU-R BT.601)."""


@dataclass(frozen=True)
class Transform:
    """How an image becomes a float32 array (3, crop, crop).

    In test (no random numbers) that is what ``preprocessing`` says; ``mean_image`` (3, resize,
    resize) takes the place of its mean. In training its protocol takes the cut at random, of
    ``area`` of the image if it is "random-resized-crop". Then, in training alone: rotation by
    up to ``rotation`` degrees either way, the mirror image in half of the cases if the
    preprocessing says ``mirror``, and brightness, contrast and saturation scaled by a factor
    within 1 +- ``jitter``.
    """

    preprocessing: Preprocessing = PREPROCESSING
    mean_image: FloatArray | None = None
    rotation: float = 0.0
    jitter: float = 0.0
    area: tuple[float, float] = (0.08, 1.0)

    @property
    def crop(self) -> int:
        """The side of the net's input."""
        return self.preprocessing.crop_size or CROP

    def __call__(self, bgr: Pixels, rng: Random | None) -> FloatArray:
        """The net's input: random if ``rng`` is given, as in test if not."""
        made, cut = self.preprocessing, (self.crop, self.crop)
        if rng is None:
            return to_input(bgr, made, cut, self.mean_image)
        image, top, left = PROTOCOLS[made.protocol].cut_at_random(
            bgr, made.size_before(cut), cut, rng, self.area
        )
        if self.rotation:
            image = _rotate(image, rng.uniform(-self.rotation, self.rotation))
        mean = mean_at(made, self.mean_image, top, left, cut)
        floats = image.astype(np.float32)
        if made.mirror and rng.random() < 0.5:
            floats, mean = floats[:, ::-1], mean[:, ::-1]
        if self.jitter:
            floats = _jitter_colours(floats, rng.uniform(1 - self.jitter, 1 + self.jitter, 3))
        return normalise(floats, made, mean)


def read_transform(
    preprocessing: Preprocessing,
    *,
    rotation: float = 0.0,
    jitter: float = 0.0,
    area: tuple[float, float] = (0.08, 1.0),
) -> Transform:
    """The transform of a preprocessing, whose mean image is read if it names one."""
    mean_file = preprocessing.mean_file
    mean_image = None if mean_file is None else read_mean(mean_file)
    return Transform(preprocessing, mean_image, rotation, jitter, area)


def _rotate(image: Pixels, degrees: float) -> Pixels:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    rotated: Pixels = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return rotated


def _jitter_colours(image: FloatArray, factors: npt.NDArray[np.float64]) -> FloatArray:
    brightness, contrast, saturation = (np.float32(factor) for factor in factors)
    image = np.clip(image * brightness, 0, 255)
    grey = (image @ LUMA).mean()
    image = np.clip(grey + contrast * (image - grey), 0, 255)
    greys = (image @ LUMA)[:, :, None]
    coloured: FloatArray = np.clip(greys + saturation * (image - greys), 0, 255)
    return coloured
