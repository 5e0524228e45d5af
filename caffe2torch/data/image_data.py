"""ImageData: image files named in a list (Caffe: image_data_layer.cpp, util/io.cpp)."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from caffe2torch.data.source import Reading, batch_size_of, check_tops, register_source
from caffe2torch.data.transformer import ImageSource, Item
from caffe2torch.images import ImageError, Pixels, read_columns, read_image
from caffe2torch.io.schema import Message
from caffe2torch.layers import net_error

SHUFFLE, SKIP = range(2)
"""What random numbers are for that are not an item's."""


@register_source("ImageData")
class ImageData(ImageSource):
    """The images of a list, over and over: top 0 (N, C, H, W), top 1 the labels (N).

    A line of ``source`` is ``path label``; ``root_folder`` is written before the path as it is. C
    is 3, or 1 when ``is_color`` (true) is false. ``new_height`` and ``new_width`` (0: as they are)
    resize with bilinear interpolation; the first image of a batch gives its shape. ``shuffle``
    (false) orders each pass over the list at random, and ``rand_skip`` (0) begins that many
    images later at most. Errors: NetError for parameters that Caffe refuses, ReadError for a list
    or a line that cannot be used, ImageError for an image, with the line that names it.
    """

    no_effect = (
        "image_data_param.scale",
        "image_data_param.mean_file",
        "image_data_param.crop_size",
        "image_data_param.mirror",
    )

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 2, 2)
        param = self.param = proto.image_data_param
        if bool(param.new_height) != bool(param.new_width):
            raise net_error(
                proto, "give both new_height and new_width, or none", "image_data_param"
            )
        self.path = reading.find(param.source)
        self._read_list(proto, reading)
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None
        self.skip = 0
        if param.rand_skip:
            self.skip = int(reading.random(proto.name, SKIP).integers(param.rand_skip))
        if self.skip >= len(self.labels):
            raise net_error(
                proto,
                f"{self.skip} images were to be skipped, but {self.path} names {len(self.labels)}; "
                "give less",
                "image_data_param.rand_skip",
            )
        self.prepare(proto, reading, batch_size_of(proto, "image_data_param"))

    def read(self, position: int) -> Item:
        """The image at a position of the stream."""
        turn, place = divmod(position + self.skip, len(self.labels))
        index = self._shuffled(turn)[place] if self.param.shuffle else place
        name = self.param.root_folder + os.fsdecode(self.names[index])
        where = f"{name} ({self.path}:{self.lines[index]})"
        image = self._read_image(name, where)
        image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        return Item(image, int(self.labels[index]), where)

    def _shuffled(self, turn: int) -> npt.NDArray[np.int64]:
        """The order of the images in a pass over the list."""
        if self._order is None or self._order[0] != turn:
            random = self.reading.random(self.proto.name, SHUFFLE, turn)
            self._order = turn, random.permutation(len(self.labels))
        return self._order[1]

    def _read_image(self, name: str, where: str) -> Pixels:
        import cv2

        try:
            pixels = read_image(self.reading.find(name), 3 if self.param.is_color else 1)
        except ImageError as error:
            raise ImageError(f"{where}: {error}{self.reading.tried(name)}") from None
        if self.param.new_height:
            size = self.param.new_width, self.param.new_height
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        return pixels

    def _read_list(self, proto: Message, reading: Reading) -> None:
        """Columns of the list: ``names``, ``labels`` and the numbers of the ``lines``."""
        field = "image_data_param.source"
        try:
            self.path.open("rb").close()
        except (OSError, ValueError) as error:
            raise reading.cannot_read(proto, field, "the list", error) from None
        self.names, self.labels, self.lines = read_columns(self.path, signed=True)
        if not len(self.labels):
            raise net_error(proto, f"the list {self.path} names no image; it is empty", field)
