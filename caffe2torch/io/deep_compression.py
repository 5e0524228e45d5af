"""Deep Compression files: a net's convolutions, pruned, with shared values (arXiv:1510.00149).

The format of the published compressed SqueezeNet, all little endian::

    uint32 n                     of each convolution, in the order of the net
    then for each convolution:
        float32 codebook[256]    codebook[0] = 0.0
        float32 bias[out]
        uint8 code[n]            an index into the codebook
        uint4 gap[n]             two in a byte, the first in the low half

Entry i stands at the place ``sum(gap[:i + 1] + 1) - 1`` of the flattened weight (out, in,
height, width) and has the value ``codebook[code[i]]``; every other weight is 0. Where more
than 15 zeros lie between two weights, entries with code 0 and gap 15 lead over them.

The file names neither its layers nor their shapes, and has no magic number: it is known by
its name, ``.net``, and read with the convolutions of its net at hand.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from caffe2torch.errors import ReadError
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import Weights
from caffe2torch.io.checksum import Checksum
from caffe2torch.io.files import Buffer, open_file, other_kind
from caffe2torch.io.schema import message_class

SUFFIX = ".net"

CODEBOOK = 256
"""Values in a codebook; the first is 0.0, so a layer has at most 255 others."""

REACH = 16
"""The farthest step from one entry to the next: the largest gap, 15, and one."""

_COUNT_BYTES, _FLOAT_BYTES = 4, 4
_MAX_RATIO = 64  # Of weights to the file's bytes. Where the net goes on, an entry bridges 16.


class Convolution(NamedTuple):
    """What a file does not say of a convolution: its name and its weight's shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CodedLayer:
    """A convolution as the file has it.

    ``codebook`` (256,) float32 has 0.0 first. ``codes`` is uint8 of the weight's shape and
    0 where the weight is pruned; ``bias`` (out,) is float32.
    """

    codebook: NDArray[np.float32]
    codes: NDArray[np.uint8]
    bias: NDArray[np.float32]


def is_deep_compression(path: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether ``path`` is one, by its name: the format has nothing else to know it by."""
    return isinstance(path, str | os.PathLike) and str(path).endswith(SUFFIX)


def fits(path: str | os.PathLike[str], net: Sequence[Convolution]) -> bool:
    """Whether the counts and the length of the file are those of these convolutions."""
    data = open_file(path)
    return _misfit(_counts(data, net), len(data), net) is None


def read_deep_compression(path: str | os.PathLike[str], net: Sequence[Convolution]) -> Weights:
    """Read the weights and biases of ``net``, the convolutions of the file's net in order.

    Raises ReadError unless the counts and the length of the file are those of the net, and
    each layer's numbers are finite, its codebook starts with 0.0, and its places are within
    the weight.
    """
    data, source = open_file(path), os.fspath(path)
    if not net:
        raise ReadError(
            f"{source}: holds the weights of convolutions, and its net has none; give the "
            "prototxt that belongs to it"
        )
    counts = _counts(data, net)
    cause = _misfit(counts, len(data), net)
    if cause is not None:
        # Only now: a count may look like the beginning of another kind of file.
        kind = other_kind(data[:4096])
        if kind is not None:
            raise ReadError(f"{source}: is {kind}, not a Deep Compression file ({SUFFIX})")
        raise ReadError(
            f"{source}: is not a Deep Compression file of this net ({cause}); give the prototxt "
            "that belongs to it (--prototxt), copy the file again if it was cut, and give a file "
            f"of another kind a name that does not end in {SUFFIX}"
        )
    message = message_class("NetParameter")()
    blobs = []
    at = _COUNT_BYTES * len(net)
    for count, layer in zip(counts, net, strict=True):
        message.layer.add(name=layer.name)
        size = layer_size(count, layer.shape[0]) - _COUNT_BYTES
        try:
            weight, bias = _decode(data[at : at + size], layer, count)
        except ValueError as error:
            raise ReadError(
                f"{source}: layer {layer.name!r}: {error}; the file is corrupt or of "
                "another net: copy it again, or give the prototxt that belongs to it"
            ) from None
        blobs.append([Blob(weight, layer.shape, False), Blob(bias, layer.shape[:1], False)])
        at += size
    return Weights(message, blobs, source, Checksum(data, source))


def encode(layers: Sequence[CodedLayer]) -> bytes:
    """The file of a net's convolutions, which come in its order."""
    entries = [_entries(layer.codes) for layer in layers]
    parts = [np.array([len(codes) for codes, _ in entries], "<u4").tobytes()]
    for layer, (codes, gaps) in zip(layers, entries, strict=True):
        floats = np.concatenate([layer.codebook, layer.bias]).astype("<f4")
        parts += [floats.tobytes(), codes.tobytes(), gaps.tobytes()]
    return b"".join(parts)


def coded_size(layer: CodedLayer) -> int:
    """Bytes that the layer takes in a file."""
    return layer_size(len(_entries(layer.codes)[0]), len(layer.bias))


def layer_size(entries: int, outputs: int) -> int:
    """Bytes of a layer of so many entries, fillers among them, and output channels."""
    floats = CODEBOOK + outputs
    return _COUNT_BYTES + _FLOAT_BYTES * floats + entries + (entries + 1) // 2


def _entries(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The codes of the entries, fillers among them, and the gaps, two in a byte."""
    flat = codes.reshape(-1)
    places = np.flatnonzero(flat)
    fillers, gaps = np.divmod(np.diff(places, prepend=-1) - 1, REACH)
    last = np.cumsum(fillers + 1) - 1  # Where each weight's own entry comes to stand.
    entries = int(last[-1]) + 1 if len(last) else 0
    out = np.zeros(entries, np.uint8)
    out[last] = flat[places]
    nibbles = np.full(entries + entries % 2, REACH - 1, np.uint8)
    nibbles[last] = gaps.astype(np.uint8)
    nibbles[entries:] = 0
    pairs: NDArray[np.uint8] = nibbles[0::2] | (nibbles[1::2] << np.uint8(4))
    return out, pairs


def _counts(data: Buffer, net: Sequence[Convolution]) -> list[int]:
    """The counts at the file's beginning, as many of them as there are bytes for."""
    whole = min(len(net), len(data) // _COUNT_BYTES)
    counts: list[int] = np.frombuffer(data, "<u4", whole).tolist()
    return counts


def _misfit(counts: Sequence[int], length: int, net: Sequence[Convolution]) -> str | None:
    """Why a file of these counts and this length cannot be one of the net; None if it can."""
    if len(counts) < len(net):
        return f"{length} bytes do not hold the counts of {len(net)} convolutions"
    sizes = [math.prod(layer.shape) for layer in net]
    for count, size, layer in zip(counts, sizes, net, strict=True):
        if count > size:
            return f"it has {count} entries for the {size} weights of layer {layer.name!r}"
    wanted = sum(layer_size(n, c.shape[0]) for n, c in zip(counts, net, strict=True))
    if length != wanted:
        return f"by its counts it should have {wanted} bytes, and it has {length}"
    if sum(sizes) > _MAX_RATIO * length:
        return f"the net has {sum(sizes)} weights, far more than {length} bytes can hold"
    return None


def _decode(
    data: bytes, layer: Convolution, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flat weight, zeros included, and bias of the layer's ``data``, which has the right length.

    Raises ValueError for what cannot be.
    """
    codes_at = _FLOAT_BYTES * (CODEBOOK + layer.shape[0])
    codebook, bias = np.split(np.frombuffer(data[:codes_at], "<f4"), [CODEBOOK])
    codes, gaps = np.split(np.frombuffer(data[codes_at:], np.uint8), [count])
    if codebook[0] != 0:
        raise ValueError(f"the codebook starts with {codebook[0]}, not with 0.0")
    if not (np.isfinite(codebook).all() and np.isfinite(bias).all()):
        raise ValueError("the codebook or the biases hold infinity or NaN")
    nibbles = np.stack([gaps & 15, gaps >> 4], 1).reshape(-1)[:count]
    places = np.cumsum(nibbles.astype(np.int64) + 1) - 1
    size = math.prod(layer.shape)
    if count and places[-1] >= size:
        raise ValueError(f"an entry stands at place {places[-1]} of {size} weights")
    weight = np.zeros(size, "<f4")
    weight[places] = codebook[codes]
    weight.flags.writeable = False
    return weight, bias
