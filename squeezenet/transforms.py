"""From a decoded image to the net's input, in training (at random) and in test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from squeezenet.preprocess import CROP, MEAN, RESIZE

Pixels: TypeAlias = npt.NDArray[np.uint8]
Random: TypeAlias = np.random.Generator

PROTOCOLS = ("caffe", "shorter-side", "random-resized-crop")
LUMA = np.array([0.114, 0.587, 0.299], np.float32)
"""Weights of blue, green and red in the grey value (ITU-R BT.601)."""


@dataclass(frozen=True)
class Transform:
    """How an image becomes a float32 array (3, crop, crop).

    ``protocol`` names the crop that training takes:

    - "caffe": the whole image warped to ``resize`` x ``resize``, a random crop;
    - "shorter-side": the shorter side scaled to ``resize``, a random crop;
    - "random-resized-crop": a random part of ``area`` of the image and of an aspect ratio
      between 3/4 and 4/3, warped to the crop.

    In test (no random numbers) the crop is the middle one, and the third protocol is the
    second. All resizing is bicubic. Then, in training alone: rotation by up to ``rotation``
    degrees either way, the mirror image in half of the cases, and brightness, contrast and
    saturation scaled by a factor within 1 +- ``jitter``. Last, the colours are put into
    ``channel_order``, ``mean`` is subtracted (one number a channel in that order, or a mean
    image of which the place of the crop counts), ``scale`` multiplies, and ``std`` divides.
    """

    protocol: str = "caffe"
    resize: int = RESIZE
    crop: int = CROP
    mean: tuple[float, ...] | npt.NDArray[np.float32] = MEAN
    scale: float = 1.0
    mirror: bool = True
    rotation: float = 0.0
    jitter: float = 0.0
    area: tuple[float, float] = (0.08, 1.0)
    channel_order: str = "BGR"
    std: tuple[float, ...] = ()

    def __call__(self, bgr: Pixels, rng: Random | None) -> npt.NDArray[np.float32]:
        """The net's input: random if ``rng`` is given, as in test if not."""
        if rng is not None and self.protocol == "random-resized-crop":
            top = left = (self.resize - self.crop) // 2
            image = self._random_resized_crop(bgr, rng)
        else:
            whole = self._resize(bgr)
            top, left = self._corner(whole, rng)
            image = whole[top : top + self.crop, left : left + self.crop]
        if rng is None:
            return self._normalise(image.astype(np.float32), self._mean_at(top, left))
        if self.rotation:
            image = _rotate(image, rng.uniform(-self.rotation, self.rotation))
        mean = self._mean_at(top, left)
        floats = image.astype(np.float32)
        if self.mirror and rng.random() < 0.5:
            floats, mean = floats[:, ::-1], mean[:, ::-1]
        if self.jitter:
            floats = _jitter_colours(floats, rng.uniform(1 - self.jitter, 1 + self.jitter, 3))
        return self._normalise(floats, mean)

    def _resize(self, bgr: Pixels) -> Pixels:
        if self.protocol == "caffe":
            return _warp(bgr, self.resize, self.resize)
        height, width = bgr.shape[:2]
        scale = self.resize / min(height, width)
        return _warp(
            bgr, max(round(height * scale), self.resize), max(round(width * scale), self.resize)
        )

    def _corner(self, image: Pixels, rng: Random | None) -> tuple[int, int]:
        room = [side - self.crop for side in image.shape[:2]]
        if rng is None:
            return room[0] // 2, room[1] // 2
        return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))

    def _random_resized_crop(self, bgr: Pixels, rng: Random) -> Pixels:
        """Like torchvision's: up to ten tries, then the largest allowed middle part."""
        height, width = bgr.shape[:2]
        for _ in range(10):
            area = height * width * rng.uniform(*self.area)
            ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                return _warp(bgr[top : top + h, left : left + w], self.crop, self.crop)
        h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
        top, left = (height - h) // 2, (width - w) // 2
        return _warp(bgr[top : top + h, left : left + w], self.crop, self.crop)

    def _mean_at(self, top: int, left: int) -> npt.NDArray[np.float32]:
        """The mean as (crop, crop, 3), or (1, 1, 3) if it does not depend on the place."""
        if not isinstance(self.mean, np.ndarray):
            return np.array(self.mean, np.float32).reshape(1, 1, -1)
        at_crop = self.mean[:, top : top + self.crop, left : left + self.crop]
        return np.ascontiguousarray(at_crop.transpose(1, 2, 0))

    def _normalise(
        self, image: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        if self.channel_order == "RGB":
            image = image[:, :, ::-1]
        centred = image - mean
        if self.scale != 1.0:
            centred *= np.float32(self.scale)
        if self.std:
            centred /= np.array(self.std, np.float32)
        return np.ascontiguousarray(centred.transpose(2, 0, 1))


def _warp(bgr: Pixels, height: int, width: int) -> Pixels:
    warped: Pixels = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_CUBIC)
    return warped


def _rotate(image: Pixels, degrees: float) -> Pixels:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    rotated: Pixels = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return rotated


def _jitter_colours(
    image: npt.NDArray[np.float32], factors: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    brightness, contrast, saturation = (np.float32(factor) for factor in factors)
    image = np.clip(image * brightness, 0, 255)
    grey = (image @ LUMA).mean()
    image = np.clip(grey + contrast * (image - grey), 0, 255)
    greys = (image @ LUMA)[:, :, None]
    coloured: npt.NDArray[np.float32] = np.clip(greys + saturation * (image - greys), 0, 255)
    return coloured
