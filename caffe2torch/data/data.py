"""Data: items of an LMDB (Caffe: data_layer.cpp)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffe2torch.data.lmdb import LmdbSource, is_lmdb
from caffe2torch.data.source import Reading, batch_size_of, check_tops, register_source
from caffe2torch.data.transformer import ImageSource, Item
from caffe2torch.errors import ReadError
from caffe2torch.graph import Array
from caffe2torch.images import ImageError, decode_image
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import net_error


@register_source("Data")
class Data(ImageSource):
    """The Datums of a database in the order of their keys, over and over.

    Top 0 (N, C, H, W), top 1 the labels (N). A Datum is raw pixels, floats or an encoded image;
    ``force_color`` and ``force_gray`` decode the latter to 3 channels or 1. The first Datum of
    a batch gives its shape. Errors: ReadError for a database that is missing, empty, damaged or a
    LevelDB, ImageError for a Datum that is none, NetError for what Caffe refuses.
    """

    no_effect = (
        "data_param.rand_skip",
        "data_param.scale",
        "data_param.mean_file",
        "data_param.crop_size",
        "data_param.mirror",
        "data_param.force_encoded_color",
    )

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 1, 2)
        self.proto = proto
        self.database = LmdbSource(_database(proto, reading))
        self.prepare(proto, reading, batch_size_of(proto, "data_param"))

    def read(self, position: int) -> Item:
        """The Datum at a position of the stream."""
        index = position % len(self.database)
        datum, where = self.database.datum(index), self.database.where(index)
        return Item(self._pixels(datum, where), datum.label, where)

    def _pixels(self, datum: Message, where: str) -> Array:
        if datum.encoded:
            return self._decode(datum, where)
        shape = (datum.channels, datum.height, datum.width)
        count = int(np.prod([max(0, side) for side in shape], dtype=object))
        values: Array
        if datum.data:  # As Caffe, which reads float_data only where there are no bytes.
            values = np.frombuffer(datum.data, np.uint8)
        else:
            values = np.array(datum.float_data, np.float32)
        if values.size != count or not count:
            raise ImageError(
                f"{where} holds {values.size} values, but its shape {shape} (channels, height, "
                f"width) needs {count}: it is damaged, make the database again"
            )
        return values.reshape(shape)

    def _decode(self, datum: Message, where: str) -> Array:
        transform = self.proto.transform_param
        if transform.force_color and transform.force_gray:
            raise net_error(
                self.proto,
                "both force_color and force_gray are set; keep one",
                "transform_param.force_gray",
            )
        channels = 3 if transform.force_color else 1 if transform.force_gray else None
        pixels = decode_image(np.frombuffer(datum.data, np.uint8), where, channels)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _database(proto: Message, reading: Reading) -> Path:
    param = proto.data_param
    path = reading.find(param.source)
    if not path.exists() or not param.source:
        raise net_error(
            proto,
            f"there is no database {param.source!r}{reading.tried(param.source)}; correct the path",
            "data_param.source",
        )
    if (path / "CURRENT").is_file() and any(path.glob("MANIFEST-*")):
        raise ReadError(
            f"{path} is a LevelDB, which is not read: make an LMDB of the same items (Caffe's "
            "convert_imageset --backend lmdb, or the Python packages plyvel and lmdb, which copy "
            "keys and values as they are), and give it with backend: LMDB",
            layer=proto.name,
            type=proto.type,
            field="data_param.source",
        )
    if is_lmdb(path) and enum_name(param, "backend") != "LMDB":
        raise net_error(
            proto,
            f"it is LEVELDB (the default), but {path} is an LMDB; write backend: LMDB",
            "data_param.backend",
        )
    return path
