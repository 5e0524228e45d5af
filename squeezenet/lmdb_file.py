"""An LMDB's records, found without the lmdb library, which trusts its files.

The library follows page numbers and lengths as they stand, so that a damaged file ends the
process. Here every one is checked, and the values stay in the mapped file. Layout: mdb.c and
midl.h of LMDB 0.9, data version 1, as a 64-bit little-endian machine writes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.io.files import Buffer, open_file

Offsets = npt.NDArray[np.int64]

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_HEAD = 16  # Number (8), unused (2), flags (2), lower (2), upper (2) or pages (4).
_NODE_HEAD = 8  # Size or page number (4 + 2 of flags), flags (2), key size (2).
_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_ON_OTHER_PAGES, _NOT_PLAIN = 0x01, 0x02 | 0x04
_NO_PAGE = 2**64 - 1
_MAX_DEPTH = 32


class _Meta(NamedTuple):
    """The root page of the main database and how often the file was written."""

    flags: int
    entries: int
    root: int
    transaction: int


@dataclass(frozen=True)
class Records:
    """Where in the file each record's key and value lie, in the order of the keys."""

    key_start: Offsets
    key_size: Offsets
    value_start: Offsets
    value_size: Offsets

    def __len__(self) -> int:
        return len(self.key_start)


def map_lmdb(path: Path) -> Buffer:
    """Map the data file of the LMDB at ``path``, a folder or the file itself."""
    return open_file(path / "data.mdb" if path.is_dir() else path)


def find_records(data: Buffer, path: Path) -> Records:
    """All records of the mapped LMDB; raises ReadError for a damaged one."""
    return _Walk(data, path).records()


class _Walk:
    def __init__(self, data: Buffer, path: Path) -> None:
        self.data, self.path = data, path
        self.page_size = 0
        self.seen: set[int] = set()

    def records(self) -> Records:
        """Walk the tree from its root, depth first, so that the keys come in order."""
        meta = self._newest_meta()
        if meta.flags:
            self._fail("it holds several databases or values for a key, which Caffe's do not")
        found: list[npt.NDArray[np.int64]] = []
        waiting = [] if meta.root == _NO_PAGE else [(meta.root, 1)]
        while waiting:
            number, depth = waiting.pop()
            start, flags, nodes = self._page(number)
            if depth > _MAX_DEPTH:
                self._fail("its tree is too deep")
            if flags == _BRANCH:
                below = self._children(start, nodes)
                waiting += [(int(page), depth + 1) for page in below[::-1]]
            else:
                found.append(self._leaf(start, nodes))
        table = np.concatenate(found) if found else np.zeros((0, 4), np.int64)
        if len(table) != meta.entries:
            self._fail(f"it says that it has {meta.entries} records, but {len(table)} are there")
        return Records(*(np.ascontiguousarray(column) for column in table.T))

    def _newest_meta(self) -> _Meta:
        """The newer one of the two first pages: they are written in turn."""
        if len(self.data) < _PAGE_HEAD + 136:
            self._fail("it is too short")
        self.page_size = struct.unpack_from("<I", self.data, _PAGE_HEAD + 24)[0]
        if not 256 <= self.page_size <= 65536 or self.page_size & (self.page_size - 1):
            self._fail("it is no LMDB, or of another kind of machine")
        if len(self.data) < 2 * self.page_size:
            self._fail("it is too short")
        return max(map(self._meta, (0, self.page_size)), key=lambda meta: meta.transaction)

    def _meta(self, start: int) -> _Meta:
        magic, version = struct.unpack_from("<II", self.data, start + _PAGE_HEAD)
        if (magic, version) != (_MAGIC, _VERSION):
            self._fail("it is no LMDB, or of another version")
        main = start + _PAGE_HEAD + 24 + 48  # After the tree of free pages.
        _, flags, _, _, _, _, entries, root = struct.unpack_from("<IHHQQQQQ", self.data, main)
        transaction = struct.unpack_from("<Q", self.data, main + 56)[0]
        return _Meta(flags, entries, root, transaction)

    def _page(self, number: int) -> tuple[int, int, npt.NDArray[np.int64]]:
        """Offset, kind and the offsets of the nodes of a branch or leaf page."""
        if number in self.seen:
            self._fail(f"page {number} is in its tree twice")
        self.seen.add(number)
        start = self._in_file(number, self.page_size)
        kind, lower = struct.unpack_from("<HH", self.data, start + 10)
        kind &= _BRANCH | _LEAF | _OVERFLOW | _META | 0x60  # 0x60: fixed sizes and sub-pages.
        if kind not in (_BRANCH, _LEAF) or not _PAGE_HEAD <= lower <= self.page_size or lower & 1:
            self._fail(f"page {number} is not one of its tree")
        pointers = np.frombuffer(self.data, "<u2", (lower - _PAGE_HEAD) // 2, start + _PAGE_HEAD)
        if not len(pointers) or (pointers < lower).any():
            self._fail(f"page {number} has nodes outside of it")
        nodes = pointers.astype(np.int64)
        if (nodes > self.page_size - _NODE_HEAD).any():
            self._fail(f"page {number} has nodes outside of it")
        return start, kind, nodes + start

    def _children(self, start: int, nodes: Offsets) -> npt.NDArray[np.uint64]:
        head = self._heads(nodes)
        low, high, flags = (head[:, i].astype(np.uint64) for i in range(3))
        return np.asarray(low | high << np.uint64(16) | flags << np.uint64(32), np.uint64)

    def _leaf(self, start: int, nodes: Offsets) -> npt.NDArray[np.int64]:
        """A row for each record: key offset and size, value offset and size."""
        head = self._heads(nodes).astype(np.int64)
        flags, key_size = head[:, 2], head[:, 3]
        value_size = head[:, 0] | head[:, 1] << 16
        if (flags & _NOT_PLAIN).any():
            self._fail("it holds several databases or values for a key, which Caffe's do not")
        elsewhere = (flags & _ON_OTHER_PAGES) != 0
        key_start = nodes + _NODE_HEAD
        value_start = key_start + key_size
        inside = np.where(elsewhere, 8, value_size)
        # Together within the page as well: else many records could share the same bytes.
        used = len(nodes) * (_NODE_HEAD + 2) + int(key_size.sum() + inside.sum())
        if (value_start + inside > start + self.page_size).any() or used > self.page_size:
            self._fail(f"a record reaches out of the page at byte {start}")
        for i in np.flatnonzero(elsewhere):
            number = struct.unpack_from("<Q", self.data, int(value_start[i]))[0]
            size = int(value_size[i])
            value_start[i] = self._in_file(number, _PAGE_HEAD + size) + _PAGE_HEAD
        return np.stack([key_start, key_size, value_start, value_size], axis=1)

    def _heads(self, nodes: Offsets) -> npt.NDArray[np.uint16]:
        page = np.frombuffer(self.data, np.uint8)
        return np.asarray(page[nodes[:, None] + np.arange(_NODE_HEAD)].view("<u2"), np.uint16)

    def _in_file(self, number: int, size: int) -> int:
        """The offset of a page, from which ``size`` bytes must be there."""
        if number * self.page_size + size > len(self.data):
            self._fail(f"page {number} lies beyond its end; it was cut short, or is damaged")
        return number * self.page_size

    def _fail(self, cause: str) -> NoReturn:
        raise ReadError(f"cannot read the LMDB {self.path}: {cause}. Copy or make it again.")
