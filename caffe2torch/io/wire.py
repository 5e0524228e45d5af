"""A caffemodel's bytes to its net and its learned arrays, without copying the arrays.

The protobuf runtime would copy every weight (and some versions take minutes to hand them to
numpy). The walk here reads the wire format itself: it leaves the arrays where they are in
the memory-mapped file, and gives the small rest to protobuf.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from caffe2torch.errors import ReadError
from caffe2torch.io._fields import BYTES, Buffer, Field, Fields, tag_bytes, varint_bytes
from caffe2torch.io.blob import Blob, read_blob
from caffe2torch.io.forks import FIRST_FORK_NUMBER, FORK_FIELDS
from caffe2torch.io.kinds import is_text, open_file, other_kind
from caffe2torch.io.schema import Message, message_class

__all__ = ["Blob", "read_wire", "walk"]

_LAYER, _V1_LAYER = 100, 2
_NAME, _TYPE, _BLOBS = 1, 2, 7
_V1_V0, _V1_NAME, _V1_BLOBS = 1, 4, 6
_V0_NAME, _V0_BLOBS = 1, 50
_UNKNOWN_FIELD = 10100

_MAX_BLOBS = 1_000_000
_MAX_REST = 16 << 20  # Bytes without the arrays; a net of 1000 layers has half a million.


def read_wire(path: str | os.PathLike[str]) -> tuple[Message, list[list[Blob]]]:
    """The net of a binary caffemodel without its arrays, and the arrays of each layer.

    The second is parallel to ``net.layer``, or to ``net.layers`` in a file of the V0 or V1
    format. The arrays are views of the memory-mapped file.
    """
    return walk(open_file(path), str(path))


def walk(buffer: Buffer, source: str) -> tuple[Message, list[list[Blob]]]:
    """As ``read_wire``, of the bytes of a file that errors call ``source``."""
    head = bytes(buffer[:4096])
    kind = other_kind(head)
    if kind is not None:
        raise ReadError(f"{source}: is {kind}, not a caffemodel")
    try:
        return _Walk(Fields(buffer, source)).net()
    except ReadError:
        if is_text(head):
            raise ReadError(
                f"{source}: is text, not a binary caffemodel; is it a prototxt?"
            ) from None
        raise


@dataclass
class _Layer:
    """The fields of one layer: those for protobuf, and where the blobs are."""

    rest: list[Field] = field(default_factory=list)
    blobs: list[Field] = field(default_factory=list)
    name: str = ""
    type: str = ""


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
        for item in self._items(0, len(self.fields.buffer)):
            if item.wire == BYTES and item.number in (_LAYER, _V1_LAYER):
                numbers.add(item.number)
                read = self._layer if item.number == _LAYER else self._v1_layer
                body, layer_blobs = read(item, len(blobs))
                out.append(_message(item.number, body))
                blobs.append(layer_blobs)
            elif item.number != _UNKNOWN_FIELD:
                out.append(self._kept(item))
        if not numbers:
            raise ReadError(
                f"{self.fields.source}: holds no layers; it is not a caffemodel, or an empty one"
            )
        if len(numbers) == 2:
            raise ReadError(
                f"{self.fields.source}: holds layers of two formats ('layer' and 'layers'), "
                "which Caffe does not read; save the net again with one of them"
            )
        return self._parse(b"".join(out)), blobs

    def _layer(self, item: Field, index: int) -> tuple[bytes, list[Blob]]:
        layer = self._split(item.value, item.end, _NAME, _TYPE, _BLOBS)
        own = layer.type and FORK_FIELDS.get(layer.type)
        body = self._fork_body(layer, own) if own else self._body(layer)
        return body, self._blobs(layer, index)

    def _v1_layer(self, item: Field, index: int) -> tuple[bytes, list[Blob]]:
        layer = self._split(item.value, item.end, _V1_NAME, 0, _V1_BLOBS)
        inner = [part for part in layer.rest if part.number == _V1_V0 and part.wire == BYTES]
        if not inner:
            return self._body(layer), self._blobs(layer, index)
        out = [self._body(_Layer([part for part in layer.rest if part not in inner]))]
        v0_blobs: list[Blob] = []
        for part in inner:
            v0 = self._split(part.value, part.end, _V0_NAME, 0, _V0_BLOBS)
            out.append(_message(_V1_V0, self._body(v0)))
            v0_blobs += self._blobs(v0, index)
        return b"".join(out), v0_blobs

    def _split(self, pos: int, end: int, name: int, type: int, blobs: int) -> _Layer:
        layer = _Layer()
        for item in self._items(pos, end):
            if item.wire == BYTES and item.number == blobs:
                layer.blobs.append(item)
                continue
            if item.wire == BYTES and item.number == name:
                layer.name = self._text(item)
            elif item.wire == BYTES and item.number == type:
                layer.type = self._text(item)
            elif item.number == _UNKNOWN_FIELD:
                continue
            layer.rest.append(item)
        return layer

    def _blobs(self, layer: _Layer, index: int) -> list[Blob]:
        self.blobs += len(layer.blobs)
        if self.blobs > _MAX_BLOBS:
            raise ReadError(f"{self.fields.source}: more than {_MAX_BLOBS} blobs; it is corrupt")
        return [
            read_blob(
                self.fields, item.value, item.end, f"layer {layer.name!r} (layer {index}), blob {i}"
            )
            for i, item in enumerate(layer.blobs)
        ]

    def _body(self, layer: _Layer) -> bytes:
        return b"".join([self._kept(item) for item in layer.rest])

    def _fork_body(self, layer: _Layer, own: str) -> bytes:
        """The layer's fields, its own parameter message under our number for it."""
        number = message_class("LayerParameter").DESCRIPTOR.fields_by_name[own].number
        out = []
        params = set()
        for item in layer.rest:
            if item.wire == BYTES and item.number >= FIRST_FORK_NUMBER:
                params.add(item.number)
                out.append(_message(number, bytes(self.fields.buffer[item.value : item.end])))
            else:
                out.append(self._kept(item))
        if len(params) > 1:
            cause = f"fields {sorted(params)}, of which only one can be its {own}"
            out.append(_message(_UNKNOWN_FIELD, cause.encode()))
        return b"".join(out)

    def _items(self, pos: int, end: int) -> Iterator[Field]:
        while pos < end:
            item = self.fields.field(pos, end)
            yield item
            pos = item.end

    def _kept(self, item: Field) -> bytes:
        self.rest += item.end - item.start
        if self.rest > _MAX_REST:
            self.fields.fail(
                item.start,
                f"more than {_MAX_REST >> 20} MiB that is not weights; this is no caffemodel",
            )
        return bytes(self.fields.buffer[item.start : item.end])

    def _text(self, item: Field) -> str:
        return bytes(self.fields.buffer[item.value : min(item.end, item.value + 4096)]).decode(
            "utf-8", "replace"
        )

    def _parse(self, data: bytes) -> Message:
        net = message_class("NetParameter")()
        try:
            net.ParseFromString(data)
        except DecodeError as error:
            raise ReadError(
                f"{self.fields.source}: the net is not readable ({error}); the file is corrupt"
            ) from None
        _check_text(net, self.fields.source)
        return net


def _check_text(net: Message, source: str) -> None:
    """Protobuf hands out bytes for a string that is not UTF-8, which no later code expects."""
    for layer in net.layer or net.layers:
        texts = [layer.name, *layer.bottom, *layer.top]
        if net.layer:
            texts += [layer.type, *(spec.name for spec in layer.param)]
        else:
            texts += [layer.layer.name, layer.layer.type, *layer.param]
        for text in texts:
            if isinstance(text, bytes):
                raise ReadError(
                    f"{source}: {text!r} in layer {layer.name!r} is not UTF-8 text; "
                    "the file is corrupt"
                )


def _message(number: int, body: bytes) -> bytes:
    return tag_bytes(number, BYTES) + varint_bytes(len(body)) + body
