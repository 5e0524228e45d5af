"""Images of pycaffe's io.py: read from files, resized, cut.

They are arrays (H, W, K), RGB, of 0 to 1. Resizing is what scikit-image did when Caffe 1.0 was
made, without anti-aliasing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import comb, factorial
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Sizes = Sequence[float] | Array
Floats = npt.NDArray[np.float32]

GREY = (0.2125, 0.7154, 0.0721)
"""The weights of red, green and blue in grey (ITU-R 709, as scikit-image has them)."""

_OUTSIDE = 12
"""Pixels around an image that count as zeros (scipy.ndimage)."""


def load_image(filename: str | os.PathLike[str], color: bool = True) -> Floats:
    """The image in a file: float32 (H, W, 3), RGB, or grey (H, W, 1); 0 to 1.

    Alpha is dropped, 16 bits are scaled to 0 to 1, an orientation in EXIF does not count. Where
    a file with alpha becomes grey, it lies on white.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: OpenCV cannot decode it.
    """
    import cv2

    data = np.fromfile(filename, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:  # Of an image that is larger than OpenCV allows.
        pixels = None
    if pixels is None:
        raise OSError(f"{os.fspath(filename)} is not an image that OpenCV can decode")
    image = pixels.astype(np.float64)
    if np.issubdtype(pixels.dtype, np.integer):
        image /= np.iinfo(pixels.dtype).max
    if image.ndim == 2:
        return np.repeat(image[:, :, np.newaxis], 3 if color else 1, axis=2).astype(np.float32)
    rgb = image[:, :, 2::-1]
    if not color:
        if image.shape[2] == 4:
            rgb = rgb * image[:, :, 3:] + (1 - image[:, :, 3:])
        rgb = (rgb @ np.array(GREY))[:, :, np.newaxis]
    return np.ascontiguousarray(rgb, np.float32)


def resize_image(im: Array, new_dims: Sizes, interp_order: int = 1) -> Floats:
    """An image (H, W, K) at another height and width, interpolated: float32.

    With 1 or 3 channels, pixels are areas: their centres lie at half positions, and outside is
    the image's minimum, which borders fall off to where the image grows. With other numbers of
    channels, pixels are points, and the corners of both images lie on each other; integers stay
    integers of their type, rounded (scipy.ndimage.zoom). Smaller images are not smoothed first
    (pycaffe with scikit-image before 0.15; later ones are).

    Args:
        im: the image; with 1 or 3 columns also a matrix.
        new_dims: height and width.
        interp_order: of the splines: 1 is linear, 3 cubic, 0 takes the nearest pixel.

    Raises:
        RuntimeError: an image without channels.
        ValueError: interp_order is not 0 to 5.
    """
    if interp_order not in range(6):
        raise ValueError(f"interp_order is a whole number of 0 to 5, not {interp_order!r}")
    areas = im.shape[-1] in (1, 3)
    if im.ndim == 2 and not areas:
        raise RuntimeError(
            f"an image of shape {im.shape} has no channels; give im[:, :, np.newaxis]"
        )
    low, high = (im.min(), im.max()) if areas else (0, 1)
    if not high > low:
        return np.full((*map(int, new_dims), *im.shape[2:]), low, np.float32)
    is_rounded = not areas and np.issubdtype(im.dtype, np.integer)
    kind = np.float64 if is_rounded else np.result_type(im, np.float32)
    image = ((im - low) / (high - low)).astype(kind, copy=False)
    for axis, size in enumerate(map(round, new_dims)):
        old = im.shape[axis]
        if areas:
            at = (np.arange(size) + 0.5) * old / size - 0.5
            weights = _spline(at + _OUTSIDE, old + 2 * _OUTSIDE, interp_order)
            weights = weights[:, _OUTSIDE : old + _OUTSIDE]  # The others are of zeros.
        else:
            weights = _spline(np.linspace(0, old - 1, size), old, interp_order)
        weights = weights.astype(image.dtype, copy=False)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    if areas:
        image = np.clip(image, 0, 1)  # Splines overshoot.
    if is_rounded:
        limits = np.iinfo(im.dtype)
        image = np.clip(np.trunc(image + np.copysign(0.5, image)), limits.min, limits.max)
    return (image * (high - low) + low).astype(np.float32)


def _spline(at: Array, size: int, order: int) -> Array:
    """The weights (positions, pixels) of a row's pixels in its values at positions ``at``.

    The B-spline of ``order`` through the pixels, mirrored at the outermost ones (scipy.ndimage).
    """
    if order == 0:
        at, order = np.floor(at + 0.5), 1

    def basis(places: Array) -> Array:
        reach = order // 2 + 1
        near = np.floor(places).astype(int)[:, np.newaxis] + np.arange(-reach, reach + 2)
        steps = np.arange(order + 2)
        signs = np.array([(-1) ** k * comb(order + 1, k) for k in steps]) / factorial(order)
        offset = (places[:, np.newaxis] - near + (order + 1) / 2)[..., np.newaxis] - steps
        values = np.maximum(offset, 0) ** order @ signs
        mirrored = np.abs((near + size - 1) % max(2 * size - 2, 1) - (size - 1))
        found = np.zeros((len(places), size))
        np.add.at(found, (np.arange(len(places))[:, np.newaxis], mirrored), values)
        return found

    weights = basis(at)
    if order > 1:
        weights = np.linalg.solve(basis(np.arange(size, dtype=float)).T, weights.T).T
    return weights


def oversample(images: Sequence[Array] | Array, crop_dims: Sizes) -> Floats:
    """Ten crops of each image: float32 (10 N, height, width, K).

    Of each image the corners (top left, top right, bottom left, bottom right) and the centre,
    then the same mirrored. The images are as large as the first.

    Raises ValueError if a crop is larger than the image.
    """
    height, width = map(int, crop_dims)
    down, right = _room(images[0].shape, (height, width))
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = []
    for image in images:
        five = [image[y : y + height, x : x + width] for y, x in corners]
        crops += [*five, *(crop[:, ::-1] for crop in five)]
    return np.stack(crops).astype(np.float32)


def centre(images: Array, crop_dims: Sizes) -> Array:
    """The centre of each image of (N, H, W, K). Raises ValueError as ``oversample``."""
    height, width = map(int, crop_dims)
    down, right = _room(images.shape[1:], (height, width))
    return images[:, down // 2 : down // 2 + height, right // 2 : right // 2 + width]


def _room(shape: Sequence[int], crop: tuple[int, int]) -> tuple[int, int]:
    """How far a crop can move down and to the right in an image."""
    down, right = shape[0] - crop[0], shape[1] - crop[1]
    if down < 0 or right < 0:
        raise ValueError(
            f"a crop of {crop[0]} x {crop[1]} does not fit an image of {shape[0]} x {shape[1]}"
        )
    return down, right
