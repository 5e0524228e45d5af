"""What a binary says that Caffe's schema does not know, told apart from what it does."""

from __future__ import annotations

from typing import Any, NamedTuple

from caffe2torch.io.fields import BYTES, FIXED32, FIXED64, VARINT, Field, Fields, head_bytes
from caffe2torch.io.schema import Message

COMMON = range(102)
"""Numbers of LayerParameter's fields that every layer type has; others are parameters of one."""

_MAX_DEPTH = 64
_MAX_SHOWN = 40
_WIRES = {1: FIXED64, 2: FIXED32, 6: FIXED64, 7: FIXED32, 15: FIXED32, 16: FIXED64, 9: BYTES,
          11: BYTES, 12: BYTES}  # fmt: skip
_MESSAGE, _BOOL, _ENUM = 11, 8, 14


class Unknown(NamedTuple):
    """A field: the names of the known fields around it, its number, its bytes with the tag."""

    parent: str
    number: int
    data: bytes


def split_known(descriptor: Any, data: bytes, limit: int = 1 << 29) -> tuple[bytes, list[Unknown]]:
    """The fields of a message that its schema knows, and the others, at every depth.

    A field is unknown if it has a number of ``limit`` or more, another number or another kind than
    the schema's, if it is an enum of another value, or a bool that is neither 0 nor 1: forks gave
    numbers of Caffe's to fields of their own. So is a second value where Caffe has one. Raises
    ReadError where the bytes are no message.
    """
    unknown: list[Unknown] = []
    return _split(descriptor, data, "", limit, unknown, _MAX_DEPTH), unknown


def is_message(unknown: Message) -> bool:
    """Whether an UnknownField of a binary can be a parameter message of its layer."""
    (item,) = Fields(unknown.data, "the file").items(0, len(unknown.data))
    return bool(not unknown.parent and item.wire == BYTES)


def describe(unknown: Message) -> str:
    """An UnknownField for an error: its path, its value if that is short, its place in a text."""
    if unknown.HasField("number"):
        return f"{unknown.parent}, field {unknown.number}".removeprefix(", ")
    path = f"{unknown.parent}.{unknown.name}".removeprefix(".")
    value = unknown.text.removeprefix(unknown.name).strip()
    shown = path + value if value[:1] == ":" and len(value) <= _MAX_SHOWN else path
    return f"{shown} (line {unknown.line}, column {unknown.column})"


def payload(data: bytes) -> bytes:
    """What is in a field of bytes: a message, without its tag and length."""
    (item,) = Fields(data, "the file").items(0, len(data))
    return data[item.value : item.end]


def _split(
    descriptor: Any, data: bytes, parent: str, limit: int, unknown: list[Unknown], depth: int
) -> bytes:
    fields = Fields(data, "the file")
    out = []
    seen = set()
    for item in fields.items(0, len(data)):
        known = descriptor.fields_by_number.get(item.number) if item.number < limit else None
        whole = data[item.start : item.end]
        again = item.number in seen and known is not None and is_single(known)
        seen.add(item.number)
        if known is None or again or not fits(known, item):
            unknown.append(Unknown(parent, item.number, whole))
        elif known.type == _MESSAGE and depth:
            path = f"{parent}.{known.name}" if parent else known.name
            inner = data[item.value : item.end]
            body = _split(known.message_type, inner, path, limit, unknown, depth - 1)
            out.append(head_bytes(item.number, len(body)) + body)
        else:
            out.append(whole)
    return b"".join(out)


def is_single(known: Any) -> bool:
    """Whether a field is a value, not a message, that Caffe writes at most once."""
    repeated = known.is_repeated if hasattr(known, "is_repeated") else known.label == 3
    return not repeated and known.type != _MESSAGE


def fits(known: Any, item: Field) -> bool:
    """Whether a field of a file can be the ``known`` one of the schema."""
    wire = _WIRES.get(known.type, VARINT)
    if item.wire != wire:
        return bool(item.wire == BYTES and wire != BYTES)  # Packed values.
    if known.type == _BOOL:
        return item.value in (0, 1)
    if known.type == _ENUM:
        return item.value in known.enum_type.values_by_number
    return True
