"""Seeded damage to bytes, to text and to messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

BYTES = bytes([0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x2F, 0x5C, 0x7B])
NUMBERS = (
    *(0, 1, 2, 3, 7, 31, 32, 127, 128, 255, 256, 65535, 65536, 10**6, 10**9),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
)
TEXTS = (
    *("0", "-1", "1", "2", "3", "1000000", "1000000000", "2147483647", "2147483648"),
    *("4294967295", "99999999999999999999", "1e38", "-1e38", "1e-45", "nan", "inf", "-inf", "0.5"),
    *("true", "false", '"data"', '""', '"../../x"', '"a\\nb"', '"\\0"', '"\\033[2J"', "MAX"),
    *("{", "}", "[", "]", "<", ">", ":", ",", ";", "#", '"', "'", "\\", "\0", "\ud800"),
)
NAMES = ("", "data", "../../x", "a/b", "a.b", "a\nb", "\0", "\x1b[2J", "\u202e", "weight", "." * 40)
_TOKEN = re.compile(r'"[^"\n]*"|[\w.+-]+|\S')


def damage_bytes(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """``data`` with one to six pieces of damage; ``others`` are spliced in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        if not out:
            break
        # The first bytes of a file hold more structure than the arrays that follow.
        at = rng.randrange(min(len(out), rng.choice((16, 128, 1024, len(out)))))
        rng.choice(_DAMAGE)(out, at, others, rng)
    return bytes(out)


def _flip(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    out[at] ^= 1 << rng.randrange(8)


def _set(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    out[at] = rng.choice(BYTES)


def _number(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(NUMBERS) % (1 << 8 * width)
    out[at : at + width] = value.to_bytes(width, "little")


def _varint(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    value, new = rng.choice(NUMBERS), bytearray()
    while value > 0x7F:
        new.append(value & 0x7F | 0x80)
        value >>= 7
    out[at : at + 1] = bytes([*new, value])


def _cut(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    del out[at:]


def _remove(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    del out[at : at + rng.choice((1, 2, 8, 64))]


def _repeat(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    piece = out[at : at + rng.choice((1, 8, 64, 256))]
    out[at:at] = piece * rng.choice((1, 1, 2, 16))


def _splice(out: bytearray, at: int, others: Sequence[bytes], rng: Random) -> None:
    other = rng.choice(others) or b"\0"
    start = rng.randrange(len(other))
    size = rng.choice((4, 32, 256))
    end = at + rng.choice((0, size))
    out[at:end] = other[start : start + size]


_DAMAGE = (_flip, _flip, _set, _number, _number, _varint, _cut, _remove, _repeat, _splice)


def damage_text(text: str, others: Sequence[str], rng: Random) -> str:
    """Prototxt, or another text, with tokens and lines replaced, removed and repeated."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tokens = list(_TOKEN.finditer(text))
        if not tokens:
            break
        token = rng.choice(tokens)
        kind = rng.randrange(6)
        if kind < 3:
            new = rng.choice(TEXTS)
        elif kind == 3:
            new = rng.choice(_TOKEN.findall(rng.choice(others)) or ["x"])
        elif kind == 4:
            new = ""
        else:
            lines = rng.choice(others).splitlines(True) or [""]
            start = rng.randrange(len(lines))
            new = token.group() + "\n" + "".join(lines[start : start + rng.randrange(1, 12)])
        text = text[: token.start()] + new + text[token.end() :]
    return text


def damage_message(message: Any, others: Sequence[Any], rng: Random) -> None:
    """Change fields of a net, in place: values no author would write, where they hurt."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        target = message
        while True:
            inner = _inner_messages(target)
            if not inner or rng.random() < 0.15:
                break
            target = rng.choice(inner)
        _change(target, rng)
        if rng.random() < 0.1:
            _graft(message, rng.choice(others), rng)


def _inner_messages(message: Any) -> list[Any]:
    found: list[Any] = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += value if _is_repeated(field, value) else [value]
    return found


def _is_repeated(field: Any, value: Any) -> bool:
    return hasattr(value, "append") or hasattr(value, "add")


def _change(message: Any, rng: Random) -> None:
    present = message.ListFields()
    fields = message.DESCRIPTOR.fields
    if present and rng.random() < 0.75:
        field, value = rng.choice(present)
    else:
        field = rng.choice(fields)
        value = getattr(message, field.name)
    if rng.random() < 0.08:
        message.ClearField(field.name)
    elif field.message_type is not None:
        if hasattr(value, "add"):
            _change_list(value, rng, lambda: None)
        else:
            value.SetInParent()
    elif hasattr(value, "append"):
        _change_list(value, rng, lambda: _scalar(field, rng))
    else:
        setattr(message, field.name, _scalar(field, rng))


def _change_list(values: Any, rng: Random, make: Any) -> None:
    kind = rng.randrange(4)
    index = rng.randrange(len(values)) if len(values) else None
    new = make()
    if index is None or kind == 0:
        if new is None:
            values.add()
        else:
            values.append(new)
    elif kind == 1:
        del values[index]
    elif kind == 2 or new is None:
        values.extend(list(values)[index : index + 1] * rng.choice((1, 1, 2, 20)))
    else:
        values[index] = new


def _graft(message: Any, other: Any, rng: Random) -> None:
    """Append layers of another net of the same format."""
    for field in ("layer", "layers"):
        theirs = getattr(other, field)
        if theirs:
            getattr(message, field).extend([rng.choice(theirs)])
            return


def _scalar(field: Any, rng: Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return b"\x00\xff" * rng.randrange(5) if is_bytes else rng.choice(NAMES)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -0.0, 1.0, -1.0, 1e38, -1e38, 1e-45, 0.5, *_SPECIAL))
    bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
    value = rng.choice((*NUMBERS, -1, -2, -(2**31), 4, 5, 6)) % (1 << bits)
    if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        value -= (1 << bits) if value >> (bits - 1) else 0
    return value


_SPECIAL = (float("inf"), float("-inf"), float("nan"))
