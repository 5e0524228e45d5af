"""The checksum of a file, computed while other things are done."""

from __future__ import annotations

import hashlib
import os
from threading import Thread
from typing import TYPE_CHECKING

from caffe2torch.io.files import MappedFile

if TYPE_CHECKING:
    from caffe2torch.io.files import Buffer

LENGTH = 64
"""Hexadecimal digits of a sha256."""
LARGE = 1 << 24
"""Bytes of a file whose checksum takes as long as importing a few modules."""

_begun: dict[object, Checksum] = {}


def begin_checksum(path: str | os.PathLike[str]) -> None:
    """Begin the checksum of a large file that is going to be read; any error shows up then."""
    try:
        with open(path, "rb") as file:
            data = MappedFile.of(file)
    except (OSError, ValueError):
        return
    if len(data) < LARGE:  # No thread need outlive a refusal: it would touch what may be cut.
        return
    checksum = Checksum(data, os.fspath(path))
    checksum.start()
    _begun[data.identity] = checksum


def checksum_of(data: Buffer, path: str) -> Checksum:
    """The checksum of ``data``: the one that was begun for the same file, if any."""
    begun = _begun.pop(data.identity, None) if isinstance(data, MappedFile) else None
    return begun or Checksum(data, path)


class Checksum:
    """The sha256 of a file; ``str()`` of it waits for it.

    It is computed in a thread, from ``start`` on or else when it is first asked for.
    """

    def __init__(self, data: Buffer, path: str) -> None:
        self._data: Buffer | None = data
        self._path = path
        self._thread: Thread | None = None
        self._result: str | Exception | None = None

    @classmethod
    def known(cls, digest: str) -> Checksum:
        """A checksum that need not be computed."""
        checksum = cls(b"", "")
        checksum._result = digest
        return checksum

    def start(self) -> None:
        """Begin to compute it, if that has not been done."""
        if self._result is None and self._thread is None:
            # A daemon: an interrupted program does not wait for it.
            self._thread = Thread(target=self._compute, daemon=True)
            self._thread.start()

    def __str__(self) -> str:
        """The digest. Raises ReadError if the file has become shorter meanwhile."""
        self.start()
        if self._thread is not None:
            self._thread.join()
        assert self._result is not None
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Checksum | str) else NotImplemented

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Checksum.known, (str(self),)

    def __hash__(self) -> int:
        return hash(str(self))

    def _compute(self) -> None:
        data, self._data = self._data, None
        assert data is not None
        try:
            self._result = _digest(data, self._path)
        except Exception as error:  # Raised where the result is asked for.
            self._result = error


def _digest(data: Buffer, path: str) -> str:
    if not isinstance(data, MappedFile):
        return hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    for part in data.parts(0, len(data), path):
        digest.update(part)
    return digest.hexdigest()
