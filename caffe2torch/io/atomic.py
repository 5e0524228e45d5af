"""Files that are either whole or not there.

``atomic_write`` is for one file, ``atomic_group`` for files that belong together. Both write
under temporary names in the folder of the destination, make the content last (fsync), rename,
and make the names last. Links are followed, and a file keeps its permissions and, where the
system lets it, its owner; a new one gets those of the umask.

A temporary file is ``NAME.XXXXXXXX.caffe2torch-part``, and its writer holds a lock on it until
it has its final name. One without a lock is of a killed process: the next writer in the folder
removes it. Where there are no such locks (Windows, some network file systems) all stay.
"""

from __future__ import annotations

import errno
import filecmp
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

from caffe2torch.errors import ArtefactError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from typing_extensions import Buffer

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
_PART, _OLD, _OLD_MAIN = "caffe2torch-part", "caffe2torch-old", "caffe2torch-old-main"
_LEFT_OVER = re.compile(rf"(.+)\.([0-9a-f]{{8}})\.({_PART}|{_OLD}|{_OLD_MAIN})", re.DOTALL)
_NAME_BYTES = 255
"""The longest file name of the usual file systems."""


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
    main file's last. A kill in between leaves the old main file, or none, with all that it
    refers to, unless a part replaces one of other content: then no main file, so that readers
    fail instead of mixing old and new, and the next writer in the folder puts the old files
    back, which were moved aside first.

    ``durable`` False leaves it to the system when the content reaches the disk: for what can
    be made again after a loss of power. Raises ArtefactError where the file system refuses,
    and for files of several folders.
    """
    group = AtomicGroup(durable)
    try:
        yield group
        group._publish()
    except Exception as error:
        group._explain(error)
        raise
    finally:
        for file in group._files:
            file.discard()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ArtefactError where ``atomic_write`` would refuse ``path``; no file is left or changed.

    For a file that comes at the end of long work.
    """
    if not _is_stream(os.fspath(path)):
        with suppress(_UnwrittenError), atomic_write(path, durable=False):
            raise _UnwrittenError


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise ArtefactError unless files can be written into the folder ``path``, or it be made."""
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        check_writable(os.path.join(folder, "file"))
    except ArtefactError as error:
        cause = error.__cause__
        assert isinstance(cause, OSError)
        raise ArtefactError(
            f"{os.fspath(path)}: no file can be written into this folder: {cause.strerror}; choose "
            "another one"
        ) from cause


class _UnwrittenError(Exception):
    """Ends a file before it appears."""


class AtomicGroup:
    """The files of ``atomic_group``."""

    def __init__(self, durable: bool) -> None:
        self._durable = durable
        self._id = uuid4().hex[:8]
        self._files: list[_File] = []

    def open(self, path: str | os.PathLike[str]) -> BinaryIO:
        """A file to be written, which becomes ``path`` when the group's block ends."""
        file = _File(os.fspath(path), self._id)
        # Noted before there is a temporary file: Ctrl-C may come at any moment.
        self._files.append(file)
        first = self._files[0]
        if file.folder != first.folder:
            raise ArtefactError(
                f"{file.path}: cannot be written together with {first.path}: they, or what "
                "they link to, lie in different folders; choose one folder for both"
            )
        return file.open()

    def _explain(self, error: Exception) -> None:
        """Raise what the user has to know instead of an error of the file system."""
        faults = [(file.path, file.raw.fault) for file in self._files if file.raw]
        if isinstance(error, OSError):
            faults.append((self._files[-1].path if self._files else "the output", error))
        for path, fault in faults:
            if fault:
                raise _refusal(path, fault) from error

    def _publish(self) -> None:
        for file in self._files:
            file.complete(self._durable)
        files = [file for file in self._files if not file.is_stream]
        if files:
            with _moving_in(files[0].folder):
                self._rename(files[:-1], files[-1])

    def _rename(self, parts: list[_File], main: _File) -> None:
        parts = [file for file in parts if not file.is_unchanged]
        replaced = [file for file in parts if os.path.lexists(file.final)]
        try:
            if replaced and os.path.lexists(main.final):
                os.replace(main.final, f"{main.final}.{self._id}.{_OLD_MAIN}")
            for file in replaced:
                os.replace(file.final, f"{file.final}.{self._id}.{_OLD}")
            for file in [*parts, main]:
                os.replace(file.part, file.final)
        except BaseException:
            if os.path.lexists(main.part):
                for file in parts:
                    if not os.path.lexists(file.part):
                        os.unlink(file.final)
            raise
        finally:
            _put_back(main.folder, self._id)


class _Raw(io.FileIO):
    """A file that remembers its first error: a library that writes it may hide that."""

    fault: OSError | None = None

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise


class _File:
    """A file under its temporary name until ``publish``, or a device or pipe."""

    def __init__(self, path: str, group: str) -> None:
        self.path = path
        self.is_stream = _is_stream(path)
        self.final = os.path.realpath(path)
        self.folder, name = ("", "") if self.is_stream else os.path.split(self.final)
        # A long name is cut to what file systems allow.
        room = _NAME_BYTES - len(f".{group}.{_PART}")
        short = os.fsencode(name)[:room].decode("utf-8", "ignore") or "x"
        self.part = os.path.join(self.folder, f"{short}.{group}.{_PART}")
        self.raw: _Raw | None = None
        self._stream: io.BufferedWriter | None = None

    def open(self) -> BinaryIO:
        """Create the temporary file."""
        self.raw = _Raw(self.path, "wb") if self.is_stream else self._create()
        self._stream = io.BufferedWriter(self.raw)
        return cast(BinaryIO, self._stream)

    def _create(self) -> _Raw:
        before = None
        # Opened, as that fails for what must not be replaced.
        with suppress(FileNotFoundError), open(self.final, "r+b") as file:
            before = os.fstat(file.fileno())
        _clean_folder(self.folder)
        mode = 0o666 if before is None else before.st_mode & 0o777
        while True:
            raw = _Raw(self.part, "xb", opener=lambda name, flags: os.open(name, flags, mode))
            _lock(raw.fileno())
            # Before it was locked, another process may have taken it for abandoned.
            if os.path.exists(self.part):
                break
            raw.close()
        if before is not None:
            if sys.platform != "win32":
                with suppress(OSError):
                    os.fchown(raw.fileno(), before.st_uid, before.st_gid)
            os.chmod(self.part, mode)
        return raw

    @property
    def is_unchanged(self) -> bool:
        """Whether the final name already has this content."""
        return os.path.isfile(self.final) and filecmp.cmp(self.part, self.final, shallow=False)

    def complete(self, durable: bool) -> None:
        """Write what is buffered, and bring it to the disk."""
        assert self._stream is not None
        assert self.raw is not None
        try:
            self._stream.flush()
            if durable and not self.is_stream:
                os.fsync(self.raw.fileno())
            else:
                # Network file systems say that a disk is full only when a descriptor is closed.
                os.close(os.dup(self.raw.fileno()))
        except OSError as error:
            self.raw.fault = self.raw.fault or error
        if self.raw.fault:
            raise self.raw.fault
        if sys.platform == "win32":  # Elsewhere it stays open, and locked, until it has its name.
            self._stream.close()

    def discard(self) -> None:
        """Close the file, and remove what has not been published."""
        if self._stream:
            with suppress(OSError):
                self._stream.close()
        with suppress(OSError):
            os.unlink(self.part)


@contextmanager
def _moving_in(folder: str) -> Iterator[bool]:
    """Let one process at a time move files in ``folder``, and make their names last.

    It is a lock on the folder itself, which leaves no file; False where there are no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # One that may not be read, or Windows.
        yield False
        return
    try:
        yield _lock(descriptor)
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool = True) -> bool:
    """Whether a lock was got."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
    return False


def _clean_folder(folder: str) -> None:
    """Remove what killed writers left in ``folder``, and put back what they had moved aside."""
    for match in _left_overs(folder, _PART):
        path = os.path.join(folder, match.string)
        with suppress(OSError):
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "r+b") as file:
                    if _lock(file.fileno(), wait=False):
                        os.unlink(path)
    groups = {match[2] for match in _left_overs(folder, _OLD, _OLD_MAIN)}
    if groups:
        with _moving_in(folder) as locked:
            for group in groups if locked else ():
                _put_back(folder, group)


def _left_overs(folder: str, *kinds: str) -> list[re.Match[str]]:
    with suppress(OSError):
        found = map(_LEFT_OVER.fullmatch, os.listdir(folder))
        return [match for match in found if match and match[3] in kinds]
    return []


def _put_back(folder: str, group: str) -> None:
    """Undo what a group did before it was stopped, or finish it: remove the old files.

    It was complete if its main file is in place, or its parts where there was no main file.
    """
    found = [m for m in _left_overs(folder, _OLD, _OLD_MAIN) if m[2] == group]
    found.sort(key=lambda match: match[3])  # The main file comes last.
    had_main = bool(found) and found[-1][3] == _OLD_MAIN
    done = had_main and os.path.lexists(os.path.join(folder, found[-1][1]))
    with suppress(OSError):
        for match in found:
            old, final = os.path.join(folder, match.string), os.path.join(folder, match[1])
            if done or (not had_main and os.path.lexists(final)):
                os.unlink(old)
            else:
                os.replace(old, final)


def _is_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    in_place = os.path.dirname(os.path.abspath(path)) in _STREAM_FOLDERS
    return not (stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and not in_place))


def _refusal(path: str, error: OSError) -> ArtefactError:
    cause = error.strerror or str(error)
    kept = "; the file that was there is unchanged" if os.path.isfile(path) else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return ArtefactError(
        f"{path}: cannot be written: {cause}{kept}{f'; {remedy}' if remedy else ''}"
    )
