"""A tiny writer of the protobuf wire format, apart from the reader under test."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence


def varint(value: int) -> bytes:
    out = b""
    value &= (1 << 64) - 1
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def number(field: int, value: int) -> bytes:
    return tag(field, 0) + varint(value)


def message(field: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return tag(field, 2) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    return message(field, value.encode())


def packed(field: int, values: Sequence[float], code: str = "f") -> bytes:
    return message(field, struct.pack(f"<{len(values)}{code}", *values))


def unpacked(field: int, values: Iterable[float], code: str = "f") -> bytes:
    wire = {"f": 5, "d": 1}[code]
    return b"".join(tag(field, wire) + struct.pack(f"<{code}", value) for value in values)


def shape(*dims: int) -> bytes:
    return message(7, message(1, *(varint(dim) for dim in dims)))


def legacy(num: int, channels: int, height: int, width: int) -> bytes:
    return number(1, num) + number(2, channels) + number(3, height) + number(4, width)


def layer(name: str, *blobs: bytes, type: str = "Convolution", extra: bytes = b"") -> bytes:
    parts = [text(1, name), text(2, type), *(message(7, blob) for blob in blobs), extra]
    return message(100, *parts)
