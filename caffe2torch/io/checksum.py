"""The sha256 of files and of values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING

from caffe2torch.errors import ReadError
from caffe2torch.io.files import PIECE, MappedFile, Source, name_of, open_file

if TYPE_CHECKING:
    from typing_extensions import Buffer

LENGTH = 64
"""Hexadecimal digits of a sha256."""


def sha256(parts: Iterable[Buffer]) -> str:
    """The hexadecimal sha256 of all ``parts`` as if they were one."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


class Checksum:
    """The sha256 of a file that was read; ``str()`` of it computes it, once.

    It keeps the content in memory (mapped) until then.
    """

    def __init__(self, data: Buffer, path: str) -> None:
        self._data: Buffer | None = data
        self._path = path
        self._digest = ""
        self._lock = Lock()

    @classmethod
    def known(cls, digest: str) -> Checksum:
        """A checksum that need not be computed."""
        checksum = cls(b"", "")
        checksum._digest = digest
        return checksum

    def __str__(self) -> str:
        """The digest. Raises ReadError if the file has become shorter meanwhile."""
        with self._lock:
            if not self._digest:
                assert self._data is not None
                self._digest = sha256(_parts(self._data, self._path))
                self._data = None
            return self._digest

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Checksum | str) else NotImplemented

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Checksum.known, (str(self),)


class OpenedFile:
    """A file that is open, and its checksum, which can be begun before the file is read.

    To all that takes a path it is one; ``read_caffemodel`` does not open it again. Raises
    ReadError as ``open_file`` does.
    """

    def __init__(self, source: Source) -> None:
        self.data = open_file(source)
        self.path = name_of(source)
        self.checksum = Checksum(self.data, self.path)

    def __fspath__(self) -> str:
        return self.path

    __str__ = __fspath__


@contextmanager
def computing(checksum: Checksum | None) -> Iterator[None]:
    """Compute ``checksum`` in a thread while the block does other things.

    An error shows up where the checksum is asked for. The thread ends with the block: it would
    touch a file that the caller may cut short afterwards. Only an interrupt does not wait.
    """

    def compute() -> None:
        with suppress(ReadError):
            str(checksum)

    if checksum is None:
        yield
        return
    thread = Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        thread.join()
        raise
    thread.join()


def _parts(data: Buffer, path: str) -> Iterable[Buffer]:
    if not isinstance(data, MappedFile):
        return (data,)
    return (data.part(start, PIECE, path) for start in range(0, len(data), PIECE))
