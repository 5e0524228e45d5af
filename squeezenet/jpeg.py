"""JPEGs that every decoder decodes alike, told by their headers alone."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from caffe2torch.images import Bytes, Pixels, decode_image, jpeg_segments
from caffe2torch.preprocessing import Size

SOF0, SOS, APP1, APP14 = 0xC0, 0xDA, 0xE1, 0xEE
"""Markers (ITU-T T.81): of a baseline frame and of its pixels; of Exif's data and of Adobe's."""
ORIENTATION = 0x0112
"""Exif's tag of how a camera was held; 1: upright."""
SAMPLINGS = frozenset(
    bytes.fromhex(text) for text in ("11", "111111", "121111", "211111", "221111", "411111")
)
"""Columns and rows of the components, a digit each, that nvJPEG knows: grey, 4:4:4 to 4:1:1."""
MOST_PIXELS = 2**24
"""Of an image; a batch of larger ones may not fit a device's memory."""


class Jpeg(NamedTuple):
    """The bytes of a file, and the height and width of its image."""

    data: Bytes
    shape: Size


def plain_jpeg(data: Bytes, source: str) -> Jpeg | Pixels:
    """The bytes of a plain JPEG, in memory of their own; otherwise pixels, as ``decode_image``.

    Plain is a whole file of an upright image with 8 bits a channel, grey or YCbCr, baseline and of
    a usual sampling: nothing progressive, arithmetic or lossless, and neither CMYK nor RGB.
    """
    shape = _plain_shape(data)
    return decode_image(data, source) if shape is None else Jpeg(np.array(data), shape)


def _plain_shape(data: Bytes) -> Size | None:
    if data[-2:].tobytes() != b"\xff\xd9":  # Cut short, or something follows the image.
        return None
    shape = None
    for marker, content in jpeg_segments(data):
        if marker == SOS:
            return shape
        if marker == SOF0:
            height, width = (int.from_bytes(content[n : n + 2], "big") for n in (1, 3))
            names, samplings = content[6::3], content[7::3]
            plain = (
                (*content[:1], *content[5:6]) == (8, len(samplings))  # Bits and components.
                and names != b"RGB"
                and samplings in SAMPLINGS
            )
            shape = (height, width) if plain and 0 < height * width <= MOST_PIXELS else None
        if marker == APP14 and content.startswith(b"Adobe") and content[11:12] != b"\x01":
            return None
        if marker == APP1 and content.startswith(b"Exif\0\0") and not _is_upright(content[6:]):
            return None
    return None


def _is_upright(tiff: bytes) -> bool:
    """Whether Exif's data say so, or nothing about it. Follows TIFF 6.0, section 2."""
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(place: int, size: int = 2) -> int:
        return int.from_bytes(tiff[place : place + size], order)

    directory = number(4, 4)
    most = min(number(directory), len(tiff) // 12)
    entries = (directory + 2 + 12 * n for n in range(most))
    return all(number(entry) != ORIENTATION or number(entry + 8) == 1 for entry in entries)
