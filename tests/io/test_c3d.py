"""Files of C3D 1.0, whose blobs, inputs and numbers are of its own."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from spatial_oracles import convolution
from support import OF_LAYER, assert_close, genuine

from caffe2torch.api import read
from caffe2torch.errors import ReadError
from caffe2torch.io.caffemodel import walk
from caffe2torch.io.fields import head_bytes
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.resolve import unknown_fields
from caffe2torch.pipeline import upgrade_net

NET = b"""
input: "data" input_dim: 1 input_dim: 3 input_dim: 2 input_dim: 4 input_dim: 5
layers { name: "c" type: CONVOLUTION3D bottom: "data" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 kernel_depth: 2 pad: 1 } }
layers { name: "p" type: POOLING3D bottom: "c" top: "p"
  pooling_param { pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "p" top: "ip"
  inner_product_param { num_output: 3 } }
layers { name: "v" type: VOXEL_SOFTMAX bottom: "c" top: "v" }
"""


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    return head_bytes(number, len(value)) + value


def blob(array: np.ndarray, shape: tuple[int, ...]) -> bytes:
    values = array.astype("<f4").tobytes()
    dims = b"".join(field(number, size) for number, size in enumerate(shape, 1))
    return dims + field(6, values) + field(7, struct.pack("<f", 0))


def layer(name: str, kind: int, *blobs: bytes) -> bytes:
    body = field(4, name.encode()) + field(5, kind) + b"".join(field(6, b) for b in blobs)
    return field(2, body + field(10, field(6, 3)))  # Its convolution_param.kernel_depth is 3.


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"weight": (2, 3, 2, 3, 3), "bias": (2,), "ip": (3, 12), "ip_bias": (3,)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def model() -> bytes:
    a = arrays()
    return layer(
        "c", 30, blob(a["weight"], (2, 3, 2, 3, 3)), blob(a["bias"], (1, 1, 1, 1, 2))
    ) + layer("ip", 14, blob(a["ip"], (1, 1, 1, 3, 12)), blob(a["ip_bias"], (1, 1, 1, 1, 3)))


def test_it_is_read_with_its_prototxt() -> None:
    graph = read(model(), NET)
    x = np.random.default_rng(1).standard_normal((1, 3, 2, 4, 5)).astype(np.float32)
    with torch.no_grad():
        tops = to_torch(graph)(torch.from_numpy(x))
    a = arrays()
    y = convolution(x.astype(float), a["weight"], a["bias"], (1, 1, 1), (0, 1, 1), (1, 1, 1))
    voxels = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    assert_close(tops["v"].numpy(), voxels, OF_LAYER)
    pooled = np.full((1, 2, 1, 2, 3), -np.inf)
    for i in range(4):
        for j in range(5):
            place = (0, slice(None), 0, i // 2, j // 2)
            pooled[place] = np.maximum(pooled[place], y[0, :, 0, i, j])
    assert_close(tops["ip"].numpy(), pooled.reshape(1, 12) @ a["ip"].T + a["ip_bias"], OF_LAYER)


def test_its_blobs_have_a_length() -> None:
    _, blobs = walk(model(), "c3d")
    assert [b.shape for b in blobs[0]] == [(2, 3, 2, 3, 3), (1, 1, 1, 1, 2)]
    np.testing.assert_array_equal(blobs[0][1].data, arrays()["bias"].astype(np.float32))


def test_without_its_prototxt_it_is_named() -> None:
    with pytest.raises(ReadError, match=r"is a caffemodel of C3D 1\.0.*give the net's prototxt"):
        read(model())


def test_the_file_that_was_called_corrupt() -> None:
    folder = genuine("SHARED", "faults", "c3d_v10")
    graph = read(folder / "c3d10.caffemodel", folder / "c3d10.prototxt")
    assert graph.shapes[graph.outputs[0]] == (1, 4, 4, 8, 8)


def test_nothing_of_it_is_lacking() -> None:
    net = upgrade_net(read_prototxt(NET))
    assert [unknown_fields(layer) for layer in net.layer] == [[]] * len(net.layer)
