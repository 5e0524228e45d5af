"""Images and arrays on the way into a net and out of it (pycaffe's io.py).

Images are arrays (H, W, K), RGB, of 0 to 1. Resizing is what scikit-image did when Caffe 1.0 was
made, without anti-aliasing.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from math import comb, factorial
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.pycaffe.proto import caffe_pb2

Array = npt.NDArray[Any]
Sizes = Sequence[float] | Array
Floats = npt.NDArray[np.float32]
Message = Any

GREY = (0.2125, 0.7154, 0.0721)
"""The weights of red, green and blue in grey (ITU-R 709, as scikit-image has them)."""

_OUTSIDE = 12
"""Pixels around an image that count as zeros (scipy.ndimage)."""

_BORROWED = {
    "skimage": ("skimage.io", "scikit-image"),
    "resize": ("skimage.transform", "scikit-image"),
    "zoom": ("scipy.ndimage", "scipy"),
}


def __getattr__(name: str) -> Any:
    """``skimage``, ``resize`` and ``zoom``, which pycaffe's io lets programs import from it."""
    if name not in _BORROWED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, package = _BORROWED[name]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise AttributeError(
            f"caffe.io.{name} is {package}'s; install it: pip install {package}"
        ) from error
    return importlib.import_module("skimage") if name == "skimage" else getattr(found, name)


def blobproto_to_array(blob: Message, return_diff: bool = False) -> Array:
    """The data of a BlobProto, or its diff, as float64 in its shape.

    The old fields num, channels, height and width count as soon as one is set.
    Raises ValueError if the shape does not fit the number of values.
    """
    data: Array = np.array(blob.diff if return_diff else blob.data, np.float64)
    if any(map(blob.HasField, ("num", "channels", "height", "width"))):
        shape = blob.num, blob.channels, blob.height, blob.width
    else:
        shape = tuple(blob.shape.dim)
    return data.reshape(shape)


def array_to_blobproto(arr: Array, diff: Array | None = None) -> Message:
    """A BlobProto of an array and, if given, of its gradient, which is taken as it is."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[Array]) -> bytes:
    """The bytes of a BlobProtoVector of arrays."""
    vector = caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(array) for array in arraylist])
    return bytes(vector.SerializeToString())


def blobprotovector_str_to_arraylist(str: bytes) -> list[Array]:
    """The arrays, float64, in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: Array, label: int | None = None) -> Message:
    """A Datum of an array (channels, height, width): uint8 as bytes, all else as floats.

    Raises:
        ValueError: the array has not three axes.
        TypeError: the label is no whole number.
    """
    if arr.ndim != 3:
        raise ValueError(
            f"a Datum has channels, height and width; the array's shape is {arr.shape}"
        )
    channels, height, width = arr.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Message) -> Array:
    """The array (channels, height, width) of a Datum: uint8 of bytes, float64 of floats.

    A Datum that holds an image file (``encoded``) is not decoded: ValueError.
    """
    shape = datum.channels, datum.height, datum.width
    if datum.data:
        data: Array = np.frombuffer(datum.data, np.uint8).copy()
    else:
        data = np.array(datum.float_data, np.float64)
    return data.reshape(shape)


class Transformer:
    """Makes images the inputs of a net, and inputs images.

    ``inputs`` is the shape of each input blob by name. The other attributes hold what is set, by
    input: transpose, channel_swap, raw_scale, mean, input_scale.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, Any] = {}
        self.mean: dict[str, Array] = {}
        self.input_scale: dict[str, Any] = {}

    @classmethod
    def _of(
        cls,
        in_: str,
        shape: Sequence[int],
        mean: Array | None,
        input_scale: Any,
        raw_scale: Any,
        channel_swap: Sequence[int] | None,
    ) -> Transformer:
        """That of a net for images (Classifier, Detector)."""
        transformer = cls({in_: shape})
        transformer.set_transpose(in_, (2, 0, 1))
        if mean is not None:
            transformer.set_mean(in_, mean)
        if input_scale is not None:
            transformer.set_input_scale(in_, input_scale)
        if raw_scale is not None:
            transformer.set_raw_scale(in_, raw_scale)
        if channel_swap is not None:
            transformer.set_channel_swap(in_, channel_swap)
        return transformer

    def preprocess(self, in_: str, data: Array) -> Floats:
        """The image ``data`` (H, W, K) as input ``in_``: float32 (K, H, W).

        In this order: resized to the input's height and width if they are others, transposed,
        channels swapped, times raw_scale, minus mean, times input_scale. As in Caffe, a float32
        image that needs neither a resize nor a swap is changed itself.
        """
        size = self._shape(in_)[2:]
        image: Floats = data.astype(np.float32, copy=False)
        if image.shape[:2] != size:
            image = resize_image(image, size)
        if in_ in self.transpose:
            image = image.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            image = image[list(self.channel_swap[in_]), :, :]
        if self.raw_scale.get(in_) is not None:
            image *= self.raw_scale[in_]
        if in_ in self.mean:
            image -= self.mean[in_]
        if self.input_scale.get(in_) is not None:
            image *= self.input_scale[in_]
        return image

    def deprocess(self, in_: str, data: Array) -> Array:
        """The image of what ``preprocess`` gave, resized as it is; axes of size 1 are dropped.

        The channel's axis stays where something that was set counts on it.
        """
        self._shape(in_)
        image: Array = data.copy().squeeze()
        mean = self.mean.get(in_)
        counted = in_ in {*self.transpose, *self.channel_swap}
        if (counted or (mean is not None and mean.ndim == 3)) and image.ndim < 3 <= data.ndim:
            image = data.copy().reshape(data.shape[-3:])
        if self.input_scale.get(in_) is not None:
            image /= self.input_scale[in_]
        if mean is not None:
            image += mean
        if self.raw_scale.get(in_) is not None:
            image /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            image = image[np.argsort(self.channel_swap[in_]), :, :]
        if in_ in self.transpose:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of an image's axes in the input, (2, 0, 1) for (H, W, K) to (K, H, W)."""
        shape = self._shape(in_)
        if len(order) != len(shape) - 1:
            raise Exception(
                f"the order {order} does not name {len(shape) - 1} axes, as the input {in_!r} has"
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the channels, (2, 1, 0) for RGB to BGR. They come first by then."""
        shape = self._shape(in_)
        if len(order) != shape[1]:
            raise Exception(
                f"the order {order} does not name {shape[1]} channels, as the input {in_!r} has"
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: Any) -> None:
        """Set the factor before the mean: 255 for a net that was trained on 0 to 255."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """Set the mean to subtract: one value a channel, or an image (K, H, W), resized to fit.

        Raises ValueError if it fits neither way.
        """
        shape = self._shape(in_)[1:]
        if mean.ndim == 1:
            if len(mean) != shape[0]:
                raise ValueError(
                    f"the mean has {len(mean)} values and the input {in_!r} {shape[0]} channels"
                )
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim not in (2, 3) or (mean.ndim == 2 and shape[0] != 1):
            raise ValueError(
                f"the mean's shape {mean.shape} is neither (channels,) nor (channels, height, "
                f"width) for the input {in_!r} of shape {shape}"
            )
        elif (1, *mean.shape)[-3:] != shape:
            image = mean if mean.ndim == 3 else mean[np.newaxis]
            low, high = image.min(), image.max()
            spread = high - low if high > low else 1
            normal = ((image - low) / spread).transpose(1, 2, 0)
            mean = resize_image(normal, shape[1:]).transpose(2, 0, 1) * spread + low
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: Any) -> None:
        """Set the factor after the mean."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise Exception(f"{in_!r} is no input of the net; there are {list(self.inputs)}")
        return tuple(self.inputs[in_])


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
