"""A ZIP archive of stored entries whose contents are written before their checksums are known.

PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to
4.3.16 (ends), 4.5.3 (ZIP64). The standard library's zipfile writes an entry's checksum in the
same pass as its content, through this process's memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

ALIGNMENT = 64
"""Where contents begin: torch.load(mmap=True) and vector instructions want it."""
_LARGE = 0xFFFFFFFF
_MANY = 0xFFFF
_VERSION = 45
"""Of the format, needed for ZIP64."""
_DATE = (1980 - 1980) << 9 | 1 << 5 | 1
"""1 January 1980, the first day it knows: the same content gives the same bytes."""
_PADDING = 0x4246
"""An extra field whose content means nothing; torch pads with the same number."""


@dataclass(frozen=True)
class Streamed:
    """A file of the archive that ``write`` puts there; its CRC-32 is asked for after it."""

    name: str
    size: int
    write: Callable[[BinaryIO], None]
    crc: Callable[[], int]


@dataclass(frozen=True)
class Late:
    """A file of the archive whose content is asked for when all others have been written."""

    name: str
    size: int
    content: Callable[[], bytes]


Entry = Streamed | Late


def write_zip(file: BinaryIO, entries: Sequence[Entry]) -> None:
    """Write all streamed contents, then everything else. ``file`` must be seekable."""
    start = file.tell()
    offsets = []
    end = 0
    for entry in entries:
        offsets.append(end)
        end += len(_local_header(entry, end, crc=0))
        if isinstance(entry, Streamed):
            file.seek(start + end)
            entry.write(file)
        end += entry.size
    directory = b""
    for entry, offset in zip(entries, offsets, strict=True):
        content = entry.content() if isinstance(entry, Late) else b""
        crc = entry.crc() if isinstance(entry, Streamed) else zlib.crc32(content)
        file.seek(start + offset)
        file.write(_local_header(entry, offset, crc) + content)
        directory += _directory_entry(entry, offset, crc)
    file.seek(start + end)
    file.write(directory + _ends(len(entries), end, len(directory)))


def _local_header(entry: Entry, position: int, crc: int) -> bytes:
    """The header at ``position``, padded so that the content is aligned."""
    name = entry.name.encode()
    extra = _zip64((entry.size, entry.size)) if entry.size >= _LARGE else b""
    length = 30 + len(name) + len(extra)
    padding = -(position + length + 4) % ALIGNMENT
    extra += struct.pack("<HH", _PADDING, padding) + bytes(padding)
    size = min(entry.size, _LARGE)
    fixed = struct.pack(
        "<4sHHHHHIIIHH",
        b"PK\3\4",
        _VERSION,
        0x800,  # The name is UTF-8.
        0,
        0,
        _DATE,
        crc,
        size,
        size,
        len(name),
        len(extra),
    )
    return fixed + name + extra


def _directory_entry(entry: Entry, offset: int, crc: int) -> bytes:
    name = entry.name.encode()
    sizes = (entry.size, entry.size) if entry.size >= _LARGE else ()
    large = (*sizes, *((offset,) if offset >= _LARGE else ()))
    extra = _zip64(large) if large else b""
    size = min(entry.size, _LARGE)
    fixed = struct.pack(
        "<4sHHHHHHIIIHHHHHII",
        b"PK\1\2",
        _VERSION,
        _VERSION,
        0x800,
        0,
        0,
        _DATE,
        crc,
        size,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        0,
        min(offset, _LARGE),
    )
    return fixed + name + extra


def _zip64(values: Sequence[int]) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)


def _ends(count: int, start: int, size: int) -> bytes:
    """The end of the directory, with the ZIP64 ends before it where the numbers need them."""
    large = b""
    if count >= _MANY or start >= _LARGE or size >= _LARGE:
        large = struct.pack(
            "<4sQHHIIQQQQ", b"PK\6\6", 44, _VERSION, _VERSION, 0, 0, count, count, size, start
        )
        large += struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
    many = min(count, _MANY)
    return large + struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, many, many, min(size, _LARGE), min(start, _LARGE), 0
    )
