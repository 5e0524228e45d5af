"""Images and arrays on the way into a net and out of it (pycaffe's io.py).

Images are arrays (H, W, K), RGB, of 0 to 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.pycaffe.images import Floats
from caffe2torch.pycaffe.images import load_image as load_image
from caffe2torch.pycaffe.images import oversample as oversample
from caffe2torch.pycaffe.images import resize_image as resize_image
from caffe2torch.pycaffe.proto import caffe_pb2

Array = npt.NDArray[Any]
Message = Any

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
