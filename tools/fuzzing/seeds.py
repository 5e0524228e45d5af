"""The sound and hand-made files that are damaged: small, so that many can be tried."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from fuzzing.nets import random_net

CASES = Path(__file__).parents[2] / "tests" / "conformance" / "cases"
MAX_BYTES = 4096
RANDOM_NETS = 40
LARGE = ("squeezenet", "zoo", "ssd")
"""Nets of many layers, whose names hold one of these, take too long for most inputs."""


@cache
def nets() -> list[tuple[Path, Path | None]]:
    """Prototxt and caffemodel of each conformance net that is small."""
    found = []
    for folder in sorted(CASES.iterdir()):
        text = folder / "net.prototxt"
        if not text.is_file() or text.stat().st_size > MAX_BYTES:
            continue
        weights = folder / "net.caffemodel"
        small = weights.is_file() and weights.stat().st_size <= MAX_BYTES
        found.append((text, weights if small else None))
    return found


def prototxts() -> list[bytes]:
    """The text of every net, and text that no tool wrote."""
    return [text.read_bytes() for text, _ in nets()] + HAND_MADE_TEXT


def forks() -> list[bytes]:
    """Nets of all layers, with the parameters that the layers of forks declare."""
    return [random_net(Random(number), usual=0.0) for number in range(RANDOM_NETS)]


def fork_caffemodels(folder: Path) -> list[bytes]:
    """The same as binaries."""
    import caffe2torch
    from caffe2torch.io.write_caffemodel import write_caffemodel

    found = []
    for text in forks():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = caffe2torch.read(None, text, allow_missing=True)
        write_caffemodel(graph, folder / "fork.caffemodel")
        found.append((folder / "fork.caffemodel").read_bytes())
    return [data for data in found if len(data) <= MAX_BYTES]


def caffemodels() -> list[bytes]:
    """Binary weights of every format."""
    return [w.read_bytes() for _, w in nets() if w]


def with_weights() -> list[tuple[Path, Path]]:
    """Nets whose weights are in a file."""
    return [(text, weights) for text, weights in nets() if weights]


def hdf5() -> list[tuple[Path, Path]]:
    """Nets whose weights are a snapshot in HDF5."""
    files = sorted(CASES.glob("*/net.caffemodel.h5"))
    return [(path.with_name("net.prototxt"), path) for path in files]


def compressed(folder: Path) -> list[tuple[Path, Path]]:
    """Nets whose weights are a Deep Compression file."""
    from caffe2torch.compressed import convolution_shapes
    from caffe2torch.io.deep_compression import CODEBOOK, CodedLayer, encode
    from caffe2torch.io.prototxt import read_prototxt
    from caffe2torch.pipeline import build_graph

    found = []
    rng = np.random.default_rng(0)
    for name in ("conv_hw", "bin_double_data", "net_squeezenet_v1_1"):
        text = CASES / name / "net.prototxt"
        net = build_graph(read_prototxt(text))
        layers = []
        for layer in convolution_shapes(net):
            codes = rng.integers(0, CODEBOOK, layer.shape) * (rng.random(layer.shape) < 0.2)
            book = rng.standard_normal(CODEBOOK).astype(np.float32)
            book[0] = 0
            bias = np.zeros(layer.shape[0], np.float32)
            layers.append(CodedLayer(book, codes.astype(np.uint8), bias))
        path = folder / f"{name}.net"
        path.write_bytes(encode(layers))
        found.append((text, path))
    return found


def means() -> list[bytes]:
    """Mean images, as binaryproto and as npy."""
    from caffe2torch.io.schema import message_class

    values = np.arange(3 * 4 * 5, dtype=np.float32)
    old = message_class("BlobProto")(num=1, channels=3, height=4, width=5, data=values)
    new = message_class("BlobProto")(double_data=values)
    new.shape.dim[:] = (3, 4, 5)
    npy = io.BytesIO()
    np.save(npy, values.reshape(3, 4, 5))
    return [old.SerializeToString(), new.SerializeToString(), npy.getvalue()]


def solvers() -> list[bytes]:
    """Solvers that carry their net."""
    return [SOLVER.encode(), SOLVER.replace("net_param", "train_net_param").encode()]


def lists() -> list[bytes]:
    """Image lists."""
    return [b"a.jpg 0\nb c.png 12\n\n/d/e.jpg\t3\r\n", "é.jpg 1\n".encode(), b"\xff 0\n"]


def artefacts(folder: Path, suffix: str) -> list[bytes]:
    """What convert writes for some nets."""
    import caffe2torch

    found = []
    for text, weights in with_weights()[:24:3]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                path = caffe2torch.convert(weights, folder / f"net{suffix}", text)
            except caffe2torch.Caffe2TorchError:
                continue
        found.append(path.read_bytes())
    return found


def checkpoints(folder: Path) -> list[bytes]:
    """A training state."""
    import torch

    from squeezenet.checkpoint import save_checkpoint

    path = folder / "last.pt"
    weights = {"conv1.weight": torch.arange(6.0).reshape(2, 3)}
    save_checkpoint(path, {"model": weights, "epoch": 1, "rng": torch.zeros(4, dtype=torch.uint8)})
    return [path.read_bytes()]


def references() -> list[bytes]:
    """Recorded outputs, stored and compressed."""
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, out=np.arange(24, dtype=np.float32).reshape(2, 12), other=np.zeros(3))
        found.append(file.getvalue())
    return found


def _zip(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


OTHER_KINDS = [  # Given to every reader.
    b"\x08\x07\x12\x07pytorch:\x00",
    _zip("archive/data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."),
    b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    b"<!DOCTYPE html>\n<html><body>404</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"\x1f\x8b\x08" + bytes(20),
    struct.pack("<Q", 2) + b"{}",
    b"\0" * 64,
    b"\xff" * 64,
]

HAND_MADE_TEXT = [
    text.encode()
    for text in (
        'input: "data" input_dim: 1 input_dim: 3 input_dim: 100000 input_dim: 100000\n'
        'layer { name: "a" type: "ReLU" bottom: "data" top: "a" }',
        'input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }\n'
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c"\n'
        "  convolution_param { num_output: 2147483647 kernel_size: 1 } }",
        'input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }\n'
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p"\n'
        "  pooling_param { pool: AVE kernel_size: 3 pad: 1 stride: 2 } }\n"
        'layer { name: "t" type: "Tile" bottom: "p" top: "t" tile_param { tiles: 1000000 } }',
        'layer { name: "a" type: "Split" bottom: "b" top: "a" }\n'
        'layer { name: "b" type: "Split" bottom: "a" top: "b" }',
        'layer { name: "a\\nb" type: "Python" top: "a" python_param { module: "os" layer: "x" } }',
        'layer { name: "d" type: "DummyData" top: "d"\n'
        "  dummy_data_param { shape { dim: 1000 dim: 1000 dim: 1000 } } }",
        "layer { " * 60 + "}" * 60,
        'name: "\\033[2J\\n\\000" # \n' + "state { stage: 'x' } " * 30,
    )
]

SOLVER = """\
net_param { name: "n" layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } } }
base_lr: 0.01 lr_policy: "multistep" stepvalue: 10 stepvalue: 20 gamma: 0.1 max_iter: 30
momentum: 0.9 weight_decay: 0.0002 type: "SGD" snapshot: 10 snapshot_prefix: "x"
test_iter: 1 test_interval: 5 random_seed: 3 clip_gradients: 2 iter_size: 2
"""
