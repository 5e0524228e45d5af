"""Files that are either whole or not there.

``atomic_write`` is for one file, ``atomic_group`` for files that belong together. Both write
under temporary names in the folder of the destination, make the content last (fsync), rename,
and make the names last. Links are followed, and a file keeps its permissions and, where the
system lets it, its owner; a new one gets those of the umask. Files of killed writers are
removed by the next writer in the folder; see ``caffe2torch.io._temporary``.
"""

from __future__ import annotations

import errno
import filecmp
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast
from uuid import uuid4

from caffe2torch.errors import ArtefactError
from caffe2torch.io._temporary import (
    OLD,
    OLD_MAIN,
    TemporaryFile,
    clean_folder,
    folder_lock,
    sync_folder,
    temporary_name,
)

_REMEDIES = {
    errno.ENOSPC: "free some space there, or choose another folder",
    errno.EDQUOT: "free some of your quota, or choose another folder",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or choose a file system "
    "that holds larger files",
    errno.EACCES: "choose a file and a folder that you may write",
    errno.EROFS: "choose a folder that can be written",
    errno.EFAULT: "a file that it is made of was changed meanwhile; try again",
}
_STREAM_FOLDERS = ("/dev", "/dev/fd", "/proc/self/fd")


@contextmanager
def atomic_write(path: str | os.PathLike[str], durable: bool = True) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` once the block ends without an error.

    Until then, and after an error, an interrupt or a kill, ``path`` is what it was before. A
    device or pipe is written directly. Raises ArtefactError where the file system refuses.
    """
    with atomic_group(durable) as group:
        yield group.open(path)


@contextmanager
def atomic_group(durable: bool = True) -> Iterator[AtomicGroup]:
    """Write files of one folder that belong together; they appear when the block ends.

    Open the parts first and last the main file, the one that refers to them or that readers
    open::

        with atomic_group() as group:
            data = group.open("net.onnx.data")
            main = group.open("net.onnx")

    After an error all files are what they were before. The names change one at a time, the
    main file's last, and a kill between two of them (well under a millisecond) leaves:

    * where no part replaces a file of other content (new destinations, or parts named by
      their content): the old main file, or none, with all that it refers to. Nobody notices.
    * where a part replaces one of other content: no main file, so that readers fail instead
      of mixing old and new. The old files are moved aside first, and the next writer in the
      folder puts all of them back.

    ``durable`` False leaves it to the system when the content reaches the disk: for output
    that can be made again after a loss of power, the only thing that it makes a difference to.

    Raises ArtefactError where the file system refuses, and for files of several folders.
    """
    group = AtomicGroup(durable)
    try:
        try:
            yield group
        except Exception as error:
            group._explain(error)
            raise
        group._publish()
    finally:
        group._discard()


class AtomicGroup:
    """The files of ``atomic_group``."""

    def __init__(self, durable: bool) -> None:
        self._durable = durable
        self._id = uuid4().hex[:8]
        self._files: list[_Stream | _File] = []

    def open(self, path: str | os.PathLike[str]) -> BinaryIO:
        """A file to be written, which becomes ``path`` when the group's block ends."""
        path = os.fspath(path)
        try:
            file = _Stream(path) if _is_stream(path) else _File(path, self._id)
            # Known to _discard before there is a temporary file: Ctrl-C may come at any moment.
            self._files.append(file)
            stream = file.open()
        except OSError as error:
            raise _refusal(path, error) from error
        if len({file.folder for file in self._files}) > 1:
            raise ArtefactError(
                f"{path}: cannot be written together with {self._files[0].path}: they, or what "
                "they link to, lie in different folders; choose one folder for both"
            )
        return stream

    def _explain(self, error: Exception) -> None:
        """Raise what the user has to know instead of an error of the block, if it is ours."""
        for file in self._files:
            if file.fault:
                raise _refusal(file.path, file.fault) from error
        if isinstance(error, OSError):
            path = self._files[-1].path if self._files else "the output"
            raise _refusal(path, error) from error

    def _publish(self) -> None:
        for file in self._files:
            try:
                file.complete(self._durable)
            except OSError as error:
                raise _refusal(file.path, error) from error
        files = [file for file in self._files if isinstance(file, _File)]
        if not files:
            return
        try:
            if len(files) == 1:
                files[0].publish()
            else:
                with folder_lock(files[0].folder):
                    _publish_together(files)
        except OSError as error:
            raise _refusal(files[-1].path, error) from error
        sync_folder(files[-1].folder)

    def _discard(self) -> None:
        for file in self._files:
            file.discard()


class _Stream:
    """A device or a pipe: it has no old content to keep."""

    folder = ""
    fault: OSError | None = None

    def __init__(self, path: str) -> None:
        self.path = path
        self._stream: BinaryIO | None = None

    def open(self) -> BinaryIO:
        self._stream = open(self.path, "wb")  # noqa: SIM115  # closed by discard
        return self._stream

    def complete(self, durable: bool) -> None:
        if self._stream:
            self._stream.flush()

    def discard(self) -> None:
        if self._stream:
            with suppress(OSError):
                self._stream.close()


class _File:
    """A file under its temporary name, until ``publish``."""

    def __init__(self, path: str, group: str) -> None:
        self.path = path
        self.final = os.path.realpath(path)
        self.folder = os.path.dirname(self.final)
        self._part = temporary_name(self.final, group)
        self._group = group
        self._raw: TemporaryFile | None = None
        self._stream: io.BufferedWriter | None = None
        self._aside: str | None = None
        self._renaming = False

    def open(self) -> BinaryIO:
        """Create the temporary file."""
        before = _status(self.final)
        clean_folder(self.folder)
        mode = 0o666 if before is None else before.st_mode & 0o777
        self._raw = TemporaryFile(self._part, mode)
        self._stream = io.BufferedWriter(self._raw)
        if before is not None:
            _keep_owner_and_mode(self._raw.fileno(), self._part, before)
        return cast(BinaryIO, self._stream)

    @property
    def fault(self) -> OSError | None:
        """The first error of a write, whatever became of it."""
        return self._raw.fault if self._raw else None

    @property
    def exists(self) -> bool:
        """Whether a file has the final name."""
        return os.path.lexists(self.final)

    @property
    def is_unchanged(self) -> bool:
        """Whether the final name already has this content."""
        return os.path.isfile(self.final) and filecmp.cmp(self._part, self.final, shallow=False)

    @property
    def published(self) -> bool:
        """Whether the new file has the final name, as the disk says it."""
        return self._renaming and self.exists and not os.path.lexists(self._part)

    def complete(self, durable: bool) -> None:
        """Write what is buffered, and bring it to the disk."""
        if self._stream and self._raw:
            self._stream.flush()
            if self.fault:
                raise self.fault
            if durable:
                os.fsync(self._raw.fileno())
            else:
                # Network file systems say that a disk is full only when a descriptor is closed.
                os.close(os.dup(self._raw.fileno()))

    def move_aside(self, kind: str) -> None:
        """Take the old file from its name, to be put back by ``restore`` or ``clean_folder``."""
        self._aside = temporary_name(self.final, self._group, kind)
        os.replace(self.final, self._aside)

    def publish(self) -> None:
        """Give the file its final name, in place of the old one."""
        if sys.platform == "win32" and self._stream:
            self._stream.close()
        # Elsewhere it stays open and locked until it has its name.
        self._renaming = True
        os.replace(self._part, self.final)

    def restore(self) -> None:
        """Undo ``publish`` and ``move_aside``."""
        if self._aside and os.path.lexists(self._aside):
            os.replace(self._aside, self.final)
        elif self.published:
            os.unlink(self.final)

    def drop_aside(self) -> None:
        """Remove the old file for good."""
        if self._aside:
            os.unlink(self._aside)

    def discard(self) -> None:
        """Close the file, and remove what has not been published."""
        for file in (self._stream, self._raw):
            if file:
                with suppress(OSError):
                    file.close()
        with suppress(OSError):
            os.unlink(self._part)


def _publish_together(files: Sequence[_File]) -> None:
    main = files[-1]
    parts = [file for file in files[:-1] if not file.is_unchanged]
    replaced = [file for file in parts if file.exists]
    try:
        if replaced and main.exists:
            main.move_aside(OLD_MAIN)
        for file in replaced:
            file.move_aside(OLD)
        for file in [*parts, main]:
            file.publish()
    except BaseException:
        if not main.published:
            for file in [*parts, main]:
                file.restore()
        raise
    for file in files:
        file.drop_aside()


def _status(final: str) -> os.stat_result | None:
    """What is there to be replaced, if anything; OSError if it must not be."""
    try:
        before = os.stat(final)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), final)
    if not os.access(final, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), final)
    return before


def _keep_owner_and_mode(descriptor: int, path: str, before: os.stat_result) -> None:
    if sys.platform != "win32":
        now = os.fstat(descriptor)
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            with suppress(OSError):
                os.fchown(descriptor, before.st_uid, before.st_gid)
    os.chmod(path, before.st_mode & 0o777)


def _is_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if os.path.dirname(os.path.abspath(path)) in _STREAM_FOLDERS:
        return not stat.S_ISDIR(mode)
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _refusal(path: str, error: OSError) -> ArtefactError:
    cause = error.strerror or str(error)
    kept = "; the file that was there is unchanged" if os.path.isfile(path) else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return ArtefactError(
        f"{path}: cannot be written: {cause}{kept}{f'; {remedy}' if remedy else ''}"
    )
