"""The protobuf wire format: one field at a time out of a buffer, every length checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import numpy as np

from caffe2torch.errors import ReadError
from caffe2torch.io.files import Buffer

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)

_MAX_GROUP_DEPTH = 64
_MAX_FIELDS = 500_000  # Runs of values count once: a net of 1000 layers has 20 thousand.
_RUN_BLOCK = 256
_WIDTH = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """One field: its bytes are ``[start, end)``, its payload ``[value, end)``.

    Of a varint ``value`` is the number itself.
    """

    number: int
    wire: int
    start: int
    value: int
    end: int


class Fields:
    """Reads fields out of ``buffer``; ``source`` names it in errors."""

    def __init__(self, buffer: Buffer, source: str) -> None:
        self.buffer = buffer
        self.source = source
        self.count = 0

    def fail(self, offset: int, cause: str) -> NoReturn:
        """Raise the error that ``cause`` was met at ``offset``."""
        raise ReadError(f"{self.source}: at byte {offset}: {cause}")

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """The number at ``pos`` and the position after it."""
        buffer = self.buffer
        if pos < end and buffer[pos] < 0x80:
            return buffer[pos], pos + 1
        value = shift = 0
        for at in range(pos, min(end, pos + 10)):
            byte = buffer[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    self.fail(pos, "a number of more than 64 bits; the file is corrupt")
                return value, at + 1
            shift += 7
        if pos + 10 <= end:
            self.fail(pos, "a number of more than 10 bytes; the file is corrupt")
        self.fail(pos, "the data ends inside a number; the file is truncated or corrupt")

    def field(self, pos: int, end: int) -> Field:
        """The field at ``pos`` of a message that ends at ``end``."""
        self.count += 1
        if self.count > _MAX_FIELDS:
            self.fail(pos, f"more than {_MAX_FIELDS} fields; this is no caffemodel")
        tag, value = self.varint(pos, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            self.fail(pos, f"field number {number} cannot be; the file is corrupt")
        if wire == VARINT:
            value, after = self.varint(value, end)
        elif wire == BYTES:
            length, value = self.varint(value, end)
            after = value + length
        elif wire in _WIDTH:
            after = value + _WIDTH[wire]
        elif wire == GROUP:
            after = self._group_end(number, value, end)
        else:
            self.fail(pos, f"wire type {wire} cannot be here; the file is corrupt")
        if after > end:
            self.fail(
                pos,
                f"a field reaches {after - end} bytes past the end of its message; "
                "the file is truncated or corrupt",
            )
        return Field(number, wire, pos, value, after)

    def items(self, pos: int, end: int) -> Iterator[Field]:
        """The fields of a message from ``pos`` to its ``end``."""
        while pos < end:
            item = self.field(pos, end)
            yield item
            pos = item.end

    def run(self, field: Field, end: int) -> int:
        """How many more values of the same width follow ``field`` with the very same tag.

        Old files write a tag before each float, millions of times: too many for Python.
        """
        width = field.end - field.start
        tag = self.buffer[field.start]
        if field.value - field.start != 1:
            return 0
        available = (end - field.end) // width
        count, block = 0, _RUN_BLOCK
        while count < available:
            size = min(block, available - count)
            tags = np.frombuffer(self.buffer, np.uint8, size * width, field.end + count * width)[
                ::width
            ]
            other = np.flatnonzero(tags != tag)
            if other.size:
                return count + int(other[0])
            count += size
            block *= 4
        return count

    def _group_end(self, number: int, pos: int, end: int) -> int:
        open_groups = [number]
        while open_groups:
            tag, value = self.varint(pos, end)
            number, wire = tag >> 3, tag & 7
            if wire == GROUP:
                if len(open_groups) == _MAX_GROUP_DEPTH:
                    self.fail(pos, "groups are nested too deeply; the file is corrupt")
                open_groups.append(number)
                pos = value
            elif wire == END_GROUP:
                if open_groups.pop() != number:
                    self.fail(pos, "the end of another group; the file is corrupt")
                pos = value
            else:
                pos = self.field(pos, end).end
        return pos


def signed(value: int, bits: int) -> int:
    """A varint as the two's complement number of ``bits`` bits that it stands for."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def head_bytes(number: int, length: int) -> bytes:
    """The bytes before the ``length`` bytes of a string, a message or packed values."""
    return _varint_bytes(number << 3 | BYTES) + _varint_bytes(length)


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
