"""Weights of a file: a binary caffemodel or an HDF5 snapshot.

The protobuf runtime would copy every weight (and some versions take minutes to hand them to
numpy). The walk here reads a caffemodel's wire format itself: it leaves the arrays where they
are in the memory-mapped file, and gives the small rest to protobuf.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from caffe2torch.errors import ReadError
from caffe2torch.io.blob import Blob, read_blob
from caffe2torch.io.checksum import Checksum, OpenedFile
from caffe2torch.io.fields import BYTES, Field, Fields, head_bytes
from caffe2torch.io.files import HDF5_SIGNATURE, Buffer, Source, is_text, other_kind
from caffe2torch.io.hdf5 import read_hdf5
from caffe2torch.io.schema import FIRST_PRIVATE, Message, message_class
from caffe2torch.io.unknown import fits

_LAYER, _V1_LAYER, _UNKNOWN = 100, 2, 500_000_001
_V0_IN_V1 = 1

# Far above any net, and low enough that a hostile file cannot take the memory.
_MAX_LAYERS = 20_000
_MAX_BLOBS = 100_000
_MAX_REST = 8 << 20  # Bytes without the arrays; a net of 1000 layers has half a million.


_COMMON_MESSAGES = ("include", "exclude", "param", "layer", "input_shape", "state")
"""Messages of a net or layer that are no parameters of one layer type."""


@cache
def _known(message: str) -> dict[int, Any]:
    """The fields that protobuf is given, by number.

    Parameter messages are not among them: what their numbers mean depends on the layer's type,
    and they are of no interest if a prototxt gives the net.
    """
    return {
        field.number: field
        for field in message_class(message).DESCRIPTOR.fields
        if field.number < FIRST_PRIVATE
        and (
            field.message_type is None
            or field.name in _COMMON_MESSAGES
            or message == "V0LayerParameter"
        )
    }


class _Format(NamedTuple):
    """Where a layer of one format generation has its name and its blobs."""

    message: str
    name: int
    blobs: int


_V2 = _Format("LayerParameter", 1, 7)
_V1 = _Format("V1LayerParameter", 4, 6)
_V0 = _Format("V0LayerParameter", 1, 50)


@dataclass(frozen=True, eq=False)
class Weights:
    """A file's net, as the file has it, and the learned arrays of each of its layers.

    ``blobs`` is parallel to ``net.layer``, or to ``net.layers`` where the file is of the V0
    or V1 format. The net of an HDF5 file has the layers' names only, and ``hdf5.ABSENT``
    stands where such a file leaves out an array that another layer owns.
    """

    net: Message
    blobs: list[list[Blob]]
    path: str
    sha256: Checksum = field(repr=False)


def read_caffemodel(path: Source) -> Weights:
    """Read the weights in ``path``, whichever of Caffe's two formats it has."""
    file = path if isinstance(path, OpenedFile) else OpenedFile(path)
    is_hdf5 = file.data[: len(HDF5_SIGNATURE)] == HDF5_SIGNATURE
    read = read_hdf5 if is_hdf5 else walk
    return Weights(*read(file.data, file.path), file.path, file.checksum)


def inline_blobs(layer: Message) -> list[Blob]:
    """The learned arrays that a prototxt gives within ``layer``."""
    blobs = []
    for index, blob in enumerate(layer.blobs):
        data = blob.SerializeToString()
        where = f"blob {index} of layer {layer.name!r}"
        blobs.append(read_blob(Fields(data, "prototxt"), 0, len(data), where))
    return blobs


def walk(buffer: Buffer, source: str) -> tuple[Message, list[list[Blob]]]:
    """The net of a binary caffemodel without its arrays, and the arrays of each layer.

    The second is parallel to ``net.layer``, or to ``net.layers`` in a file of the V0 or V1
    format. The arrays are views of ``buffer``, the content of a file that errors call
    ``source``.
    """
    head = bytes(buffer[:4096])
    kind = other_kind(head)
    if kind is not None:
        raise ReadError(f"{source}: is {kind}, not a caffemodel")
    try:
        result = _Walk(Fields(buffer, source)).net()
    except ReadError:
        if is_text(head):
            raise ReadError(
                f"{source}: is text, not a binary caffemodel; is it a prototxt?"
            ) from None
        raise
    if isinstance(buffer, mmap.mmap) and buffer.size() != len(buffer):
        raise ReadError(f"{source}: the file changed while it was read; wait until it is whole")
    return result


@dataclass
class _Layer:
    """The fields of one layer: those that the schema knows, others, and the blobs."""

    rest: list[Field] = field(default_factory=list)
    unknown: list[Field] = field(default_factory=list)
    blobs: list[Field] = field(default_factory=list)
    name: str = ""


class _Walk:
    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.blobs = 0
        self.rest = 0

    def net(self) -> tuple[Message, list[list[Blob]]]:
        """Walk the whole buffer."""
        out: list[bytes] = []
        blobs: list[list[Blob]] = []
        numbers: set[int] = set()
        known = _known("NetParameter")
        for item in self.fields.items(0, len(self.fields.buffer)):
            if item.wire == BYTES and item.number in (_LAYER, _V1_LAYER):
                numbers.add(item.number)
                read = self._layer if item.number == _LAYER else self._v1_layer
                body, layer_blobs = read(item, len(blobs))
                out.append(_message(item.number, body))
                blobs.append(layer_blobs)
                if len(blobs) > _MAX_LAYERS:
                    self.fields.fail(item.start, f"more than {_MAX_LAYERS} layers; it is corrupt")
            elif item.number in known:
                self._count(item)
                out.append(self._bytes(item))
        if not numbers:
            raise ReadError(
                f"{self.fields.source}: holds no layers; it is not a caffemodel, or an empty one"
            )
        if len(numbers) == 2:
            raise ReadError(
                f"{self.fields.source}: holds layers of two formats ('layer' and 'layers'), "
                "which Caffe does not read; save the net again with one of them"
            )
        net = message_class("NetParameter")()
        try:
            net.ParseFromString(b"".join(out))
        except DecodeError as error:
            raise ReadError(
                f"{self.fields.source}: the net is not readable ({error}); the file is corrupt"
            ) from None
        check_text(net, self.fields.source)
        return net, blobs

    def _layer(self, item: Field, index: int) -> tuple[bytes, list[Blob]]:
        layer = self._split(item, _V2)
        return self._body(layer), self._blobs(layer, index)

    def _v1_layer(self, item: Field, index: int) -> tuple[bytes, list[Blob]]:
        layer = self._split(item, _V1)
        inner = [part for part in layer.rest if (part.number, part.wire) == (_V0_IN_V1, BYTES)]
        if not inner:
            return self._body(layer), self._blobs(layer, index)
        # A V0 layer is wrapped in a V1 layer and has the blobs itself.
        layer.rest = [part for part in layer.rest if part.number != _V0_IN_V1]
        out = [self._body(layer)]
        blobs: list[Blob] = []
        for part in inner:
            v0 = self._split(part, _V0)
            v0.unknown.clear()
            out.append(_message(_V0_IN_V1, self._body(v0)))
            blobs += self._blobs(v0, index)
        return b"".join(out), blobs

    def _split(self, message: Field, form: _Format) -> _Layer:
        layer = _Layer()
        known = _known(form.message)
        for item in self.fields.items(message.value, message.end):
            number = item.number
            if item.wire == BYTES:
                if number == form.blobs:
                    layer.blobs.append(item)
                    self.blobs += 1
                    if self.blobs > _MAX_BLOBS:
                        self.fields.fail(
                            item.start, f"more than {_MAX_BLOBS} blobs; the file is corrupt"
                        )
                    continue
                if number == form.name:
                    layer.name = self._text(item)
            self._count(item)
            fit = number in known and fits(known[number], item)
            (layer.rest if fit else layer.unknown).append(item)
        return layer

    def _blobs(self, layer: _Layer, index: int) -> list[Blob]:
        where = f"layer {layer.name!r} (number {index})"
        return [
            read_blob(self.fields, item.value, item.end, f"{where}, blob {i}")
            for i, item in enumerate(layer.blobs)
        ]

    def _body(self, layer: _Layer) -> bytes:
        """The layer's fields for protobuf: those that it knows, and the others as UnknownFields."""
        out = [self._bytes(item) for item in layer.rest]
        for item in layer.unknown:
            field = message_class("UnknownField")(number=item.number, data=self._bytes(item))
            out.append(_message(_UNKNOWN, field.SerializeToString()))
        return b"".join(out)

    def _count(self, item: Field) -> None:
        self.rest += item.end - item.start
        if self.rest > _MAX_REST:
            self.fields.fail(
                item.start,
                f"more than {_MAX_REST >> 20} MiB that is not weights; this is no caffemodel",
            )

    def _bytes(self, item: Field) -> bytes:
        return self.fields.buffer[item.start : item.end]

    def _text(self, item: Field) -> str:
        return self.fields.buffer[item.value : item.end][:4096].decode("utf-8", "replace")


def check_text(message: Message, source: str, layer: str = "") -> None:
    """Protobuf hands out bytes for a string that is not UTF-8, which no later code expects."""
    for known, value in message.ListFields():
        if known.message_type is not None:
            for inner in value if hasattr(value, "add") else (value,):
                name = getattr(inner, "name", "") or layer
                check_text(inner, source, name if isinstance(name, str) else layer)
        elif known.type == known.TYPE_STRING:
            for text in value if hasattr(value, "append") else (value,):
                if isinstance(text, bytes):
                    raise ReadError(
                        f"{source}: {text!r} in layer {layer!r} is not UTF-8 text; "
                        "the file is corrupt"
                    )


def _message(number: int, body: bytes) -> bytes:
    return head_bytes(number, len(body)) + body
