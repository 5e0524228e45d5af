"""Data layers and databases for tests."""

import numpy as np

from caffe2torch.data import open_source
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import message_class


def layer(text, *, name="data", kind="", tops=("data", "label")):
    """The LayerParameter of a text."""
    names = " ".join(f'top: "{top}"' for top in tops)
    net = parse_prototxt(f'layer {{ name: "{name}" type: "{kind}" {names} {text} }}')
    return net.layer[0]


def source(text, phase="TRAIN", *, tops=("data", "label"), kind="Data", **options):
    """The source of a layer's text."""
    return open_source(layer(text, kind=kind, tops=tops), phase, **options)


def datum(image=None, label=0, **fields):
    """A Datum of an array (C, H, W): bytes, or floats."""
    if image is not None:
        fields |= dict(zip(("channels", "height", "width"), image.shape, strict=True))
        if image.dtype == np.uint8:
            fields["data"] = image.tobytes()
        else:
            fields["float_data"] = image.ravel().tolist()
    return message_class("Datum")(label=label, **fields)


def write_lmdb(path, datums):
    """An LMDB of Datums, as Caffe's convert_imageset numbers them."""
    import lmdb

    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for number, item in enumerate(datums):
            t.put(f"{number:08d}".encode(), item.SerializeToString())
    return path


def pixels(seed=0, shape=(3, 5, 7)):
    """A random image (C, H, W)."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
