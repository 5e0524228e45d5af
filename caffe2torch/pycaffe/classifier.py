"""``caffe.Classifier``: a net that classifies images (pycaffe's classifier.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.pycaffe import io
from caffe2torch.pycaffe.images import Sizes, centre
from caffe2torch.pycaffe.net import Net

Array = npt.NDArray[Any]


class Classifier(Net):
    """A net in phase TEST with a Transformer for its first input.

    Args:
        model_file: the prototxt.
        pretrained_file: the weights; None for those of the fillers.
        image_dims: height and width that images are resized to before they are cut; by default
            those of the net's input.
        mean: one value a channel, or an image (K, H, W).
        input_scale: factor after the mean.
        raw_scale: factor before the mean, 255 for a net that was trained on 0 to 255.
        channel_swap: order of the channels, (2, 1, 0) for a net that was trained on BGR.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str | None,
        image_dims: Sizes | None = None,
        mean: Array | None = None,
        input_scale: Any = None,
        raw_scale: Any = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, 1, weights=pretrained_file)
        name = self.inputs[0]
        self.transformer = io.Transformer._of(
            name, self.blobs[name].data.shape, mean, input_scale, raw_scale, channel_swap
        )
        self.crop_dims = np.array(self.blobs[name].data.shape[2:])
        self.image_dims: Sizes = self.crop_dims if image_dims is None else image_dims

    def predict(self, inputs: Sequence[Array], oversample: bool = True) -> Array:
        """The net's first output for images (H, W, K) of 0 to 1: (images, classes).

        It is the mean over ten crops of each image, or that of the centre without
        ``oversample``. Raises IndexError without images.
        """
        images = np.zeros((len(inputs), *self.image_dims, inputs[0].shape[2]), np.float32)
        for index, image in enumerate(inputs):
            images[index] = io.resize_image(image, self.image_dims)
        crops = (io.oversample if oversample else centre)(images, self.crop_dims)
        name = self.inputs[0]
        fed = np.zeros((len(crops), crops.shape[3], *crops.shape[1:3]), np.float32)
        for index, crop in enumerate(crops):
            fed[index] = self.transformer.preprocess(name, crop)
        found: Array = self.forward_all(**{name: fed})[self.outputs[0]]
        return found.reshape(len(inputs), 10, -1).mean(1) if oversample else found
