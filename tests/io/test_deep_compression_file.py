"""Deep Compression files: bytes laid out by hand, round trips, and every kind of damage."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe2torch
from caffe2torch.errors import ReadError, WeightsError
from caffe2torch.io.caffemodel import Weights
from caffe2torch.io.deep_compression import (
    CodedLayer,
    Convolution,
    coded_size,
    encode,
    fits,
    is_deep_compression,
    read_deep_compression,
)

NET = [Convolution("a", (2, 3, 3, 3)), Convolution("b", (3, 2, 1, 1))]
CODEBOOK = [0.0, 1.5, -2.0, *[0.0] * 253]
BIAS_A, BIAS_B = [0.25, -0.5], [1.0, 2.0, 3.0]
# Layer a leads over 16 places, of which the filler takes the last.
CODES_A, GAPS_A = [1, 2, 0, 2, 1], bytes([0x30, 0x0F, 0x04])
VALUES_A = {0: 1.5, 4: -2.0, 21: -2.0, 26: 1.5}
CODES_B, GAPS_B = [2, 1], bytes([0x31])
VALUES_B = {1: -2.0, 5: 1.5}
PROTOTXT = b"""
input: "x" input_shape { dim: 1 dim: 3 dim: 6 dim: 7 }
layer { name: "a" type: "Convolution" bottom: "x" top: "a"
  convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 3 kernel_size: 1 } }
"""
BOUNDED = settings(max_examples=150, deadline=None, derandomize=True)


def sound(**changes: object) -> bytes:
    """The file of NET, laid out by hand; keywords replace a part."""
    parts: dict[str, object] = {
        "counts": struct.pack("<2I", 5, 2),
        "codebook_a": struct.pack("<256f", *CODEBOOK),
        "bias_a": struct.pack("<2f", *BIAS_A),
        "codes_a": bytes(CODES_A),
        "gaps_a": GAPS_A,
        "b": struct.pack("<256f3f", *CODEBOOK, *BIAS_B) + bytes(CODES_B) + GAPS_B,
    }
    assert changes.keys() <= parts.keys()
    return b"".join(bytes(part) for part in {**parts, **changes}.values())  # type: ignore[call-overload]


def dense(values: dict[int, float], shape: tuple[int, ...]) -> np.ndarray:
    weight = np.zeros(math.prod(shape), np.float32)
    for place, value in values.items():
        weight[place] = value
    return weight.reshape(shape)


def read(data: bytes, folder: Path, net: list[Convolution] = NET) -> Weights:
    path = folder / "x.net"
    path.write_bytes(data)
    return read_deep_compression(path, net)


def test_by_hand(tmp_path: Path) -> None:
    weights = read(sound(), tmp_path)
    assert [layer.name for layer in weights.net.layer] == ["a", "b"]
    (weight_a, bias_a), (weight_b, bias_b) = weights.blobs
    assert [b.shape for b in (weight_a, bias_a, weight_b, bias_b)] == [
        (2, 3, 3, 3), (2,), (3, 2, 1, 1), (3,),
    ]  # fmt: skip
    np.testing.assert_array_equal(weight_a.data, dense(VALUES_A, (54,)))
    np.testing.assert_array_equal(weight_b.data, dense(VALUES_B, (6,)))
    assert (bias_a.data.tolist(), bias_b.data.tolist()) == (BIAS_A, BIAS_B)
    assert fits(tmp_path / "x.net", NET)
    assert not fits(tmp_path / "x.net", NET[:1])


def test_written_as_by_hand() -> None:
    codebook = np.float32(CODEBOOK)
    codes = {
        "a": dense({0: 1, 4: 2, 21: 2, 26: 1}, NET[0].shape).astype(np.uint8),
        "b": dense({1: 2, 5: 1}, NET[1].shape).astype(np.uint8),
    }
    layers = [
        CodedLayer(codebook, codes["a"], np.float32(BIAS_A)),
        CodedLayer(codebook, codes["b"], np.float32(BIAS_B)),
    ]
    assert encode(layers) == sound()
    assert sum(map(coded_size, layers)) == len(sound())


@BOUNDED
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.02, 0.1, 0.5, 1]), st.integers(1, 9))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float, n: int
) -> None:
    rng = np.random.default_rng(seed)
    net = [Convolution("a", (n, 5, 3, 2)), Convolution("b", (7, n, 1, 1))]
    layers = [
        CodedLayer(
            np.float32([0, *rng.standard_normal(255)]),
            (rng.integers(1, 256, c.shape) * (rng.random(c.shape) < share)).astype(np.uint8),
            rng.standard_normal(c.shape[0]).astype(np.float32),
        )
        for c in net
    ]
    path = tmp_path_factory.mktemp("round") / "x.net"
    path.write_bytes(encode(layers))
    assert path.stat().st_size == sum(map(coded_size, layers))
    for layer, (weight, bias) in zip(layers, read_deep_compression(path, net).blobs, strict=True):
        np.testing.assert_array_equal(weight.data, layer.codebook[layer.codes].reshape(-1))
        np.testing.assert_array_equal(bias.data, layer.bias)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x05\0\0", "do not hold the counts of 2 convolutions"),
        (sound(counts=struct.pack("<2I", 55, 2)), "55 entries for the 54 weights of layer 'a'"),
        (sound(counts=struct.pack("<2I", 5, 2**32 - 1)), "entries for the 6 weights of layer 'b'"),
        (sound(counts=struct.pack("<2I", 6, 2)), r"should have 2088 bytes, and it has 2087"),
        (sound() + b"\0", "should have 2087 bytes, and it has 2088"),
        (sound(codebook_a=struct.pack("<256f", 1, *CODEBOOK[1:])), "the codebook starts with 1.0"),
        (sound(codebook_a=struct.pack("<256f", *CODEBOOK[:-1], math.nan)), "infinity or NaN"),
        (sound(bias_a=struct.pack("<2f", 0, -math.inf)), "layer 'a': .* infinity or NaN"),
        (sound(gaps_a=bytes([0xFF, 0xFF, 0x0F])), "place 79 of 54 weights"),
        (b"PK\x03\x04" + sound(), "is a ZIP archive"),
        (b"<!DOCTYPE html>" + sound(), "is an HTML page"),
    ],
)  # fmt: skip
def test_refused(data: bytes, cause: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=cause) as caught:
        read(data, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'x.net'}: ")


def test_another_net(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"not a Deep Compression file of this net.*--prototxt"):
        read(sound(), tmp_path, NET[:1])
    with pytest.raises(ReadError, match="its net has none"):
        read(sound(), tmp_path, [])


def test_a_net_too_large_for_the_file_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    net = [NET[0], Convolution("b", (3, 1 << 40, 1, 1))]
    with pytest.raises(ReadError, match="far more than 2087 bytes can hold"):
        read(sound(), tmp_path, net)


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = sound()
    for end in [*range(1, 40), *range(40, len(data), 61), len(data) - 1]:
        with pytest.raises(ReadError):
            read(data[:end], tmp_path)


@BOUNDED
@given(st.data())
def test_flipped_bits(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    damaged = bytearray(sound())
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.sampled_from([*range(8), *range(1032, 1060), len(damaged) - 1]))
        damaged[at] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        weights = read(bytes(damaged), tmp_path_factory.getbasetemp())
    except ReadError:
        return
    assert [[b.data.size for b in blobs] for blobs in weights.blobs] == [[54, 2], [6, 3]]


def test_known_by_name() -> None:
    assert is_deep_compression("a/b.net")
    assert is_deep_compression(Path("b.net"))
    assert not is_deep_compression("net")
    assert not is_deep_compression(b"x.net")
    assert not is_deep_compression(None)


def test_a_net_is_read_with_its_prototxt(tmp_path: Path) -> None:
    (tmp_path / "x.net").write_bytes(sound())
    graph = caffe2torch.read(tmp_path / "x.net", PROTOTXT)
    np.testing.assert_array_equal(graph.params["a.weight"], dense(VALUES_A, (2, 3, 3, 3)))
    np.testing.assert_array_equal(graph.params["b.bias"], np.float32(BIAS_B))
    assert graph.source_sha256 is not None
    with pytest.raises(ReadError, match=r"Give its prototxt.*x\.prototxt"):
        caffe2torch.read(tmp_path / "x.net")
    (tmp_path / "x.prototxt").write_bytes(PROTOTXT)
    beside = caffe2torch.read(tmp_path / "x.net")
    assert beside.definition == graph.definition


def test_convolutions_without_biases_and_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.net").write_bytes(sound())
    no_bias = PROTOTXT.replace(b"num_output: 3", b"num_output: 3 bias_term: false")
    with pytest.raises(WeightsError, match=r"'b' \(Convolution\), bias_term"):
        caffe2torch.read(tmp_path / "x.net", no_bias)
    with pytest.raises(WeightsError, match=r"'a' \(Convolution\): two convolutions have this name"):
        caffe2torch.read(tmp_path / "x.net", PROTOTXT.replace(b'name: "b"', b'name: "a"'))


def test_other_learned_layers_are_not_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.net").write_bytes(sound())
    scale = b'layer { name: "s" type: "Scale" bottom: "b" top: "s" }'
    with pytest.raises(WeightsError, match=r"layer 's' \(Scale\).*x\.net has weights for 'a', 'b'"):
        caffe2torch.read(tmp_path / "x.net", PROTOTXT + scale)
