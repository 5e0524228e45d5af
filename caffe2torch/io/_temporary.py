"""Temporary files that a killed process may leave behind, and how to tell them from live ones.

A temporary file lies beside its destination, as ``NAME.XXXXXXXX.caffe2torch-part``, and its
writer holds a lock on it until it has its final name. The system drops a lock with the process
that held it, so a temporary file without a lock is one that nobody will finish. Where locks
cannot be had (some network file systems) nothing is taken for abandoned.
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from typing_extensions import Buffer

PART, OLD, OLD_MAIN = "caffe2torch-part", "caffe2torch-old", "caffe2torch-old-main"
_LEFT_OVER = re.compile(
    rf"(?P<name>.+)\.(?P<group>[0-9a-f]{{8}})\.(?P<kind>{PART}|{OLD}|{OLD_MAIN})",
    re.DOTALL,
)
_NAME_BYTES = 255
"""The longest file name of the usual file systems."""
_WINDOWS_AGE_S = 3600.0


class TemporaryFile(io.FileIO):
    """A new file, locked against ``clean_folder``, that remembers why it could not be written.

    ``fault`` is the first error of a write: libraries that write through this file may hide
    it behind one of their own.
    """

    def __init__(self, path: str, mode: int) -> None:
        self.fault: OSError | None = None
        while True:
            super().__init__(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
            _lock(self.fileno())
            # Before it was locked, another process may have found it and taken it for abandoned.
            if os.path.exists(path):
                return
            self.close()

    def write(self, data: Buffer) -> int:
        """Write as io.FileIO does, remembering the first error."""
        try:
            return super().write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise


def temporary_name(final: str, group: str, kind: str = PART) -> str:
    """The temporary path for ``final``; a part's long name is cut to what file systems allow."""
    folder, name = os.path.split(final)
    end = f".{group}.{kind}"
    if kind == PART:
        fit = os.fsencode(name)[: _NAME_BYTES - len(end)]
        name = fit.decode("utf-8", "ignore") or "x"
    return os.path.join(folder, name + end)


def clean_folder(folder: str) -> None:
    """Remove what killed writers left in ``folder``, and put back what they had moved aside."""
    found = _left_overs(folder)
    for match in found:
        if match["kind"] == PART:
            _remove_abandoned(os.path.join(folder, match.string))
    if any(match["kind"] != PART for match in found):
        with folder_lock(folder) as locked:
            if locked:
                # Only now: the group may have been finished while this process waited.
                _put_back(folder, _left_overs(folder))


@contextmanager
def folder_lock(folder: str) -> Iterator[bool]:
    """Let one process at a time move files in ``folder``; False where there are no locks.

    It is a lock on the folder itself and leaves no file behind.
    """
    if sys.platform == "win32":
        from filelock import FileLock

        with FileLock(os.path.join(folder, ".caffe2torch.lock")):
            yield True
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Make renames in ``folder`` last through a loss of power, where the system can."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, wait: bool = True) -> bool:
    """Whether a lock was got. Windows: whoever has a file open keeps others from removing it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _left_overs(folder: str) -> list[re.Match[str]]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [match for match in map(_LEFT_OVER.fullmatch, names) if match]


def _remove_abandoned(path: str) -> None:
    with suppress(OSError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        if sys.platform == "win32":
            # A live file is closed for the moment in which it gets its name.
            if time.time() - os.stat(path).st_mtime > _WINDOWS_AGE_S:
                os.unlink(path)
            return
        with open(path, "r+b") as file:
            if _lock(file.fileno(), wait=False):
                os.unlink(path)


def _put_back(folder: str, found: list[re.Match[str]]) -> None:
    """Undo, or finish, what groups were doing when they were killed.

    A group whose main file is in place was complete but for the removal of the old files.
    """
    groups: dict[str, list[re.Match[str]]] = defaultdict(list)
    for match in sorted(found, key=lambda match: match["kind"] == OLD_MAIN):
        if match["kind"] != PART:
            groups[match["group"]].append(match)
    for members in groups.values():
        main = members[-1] if members[-1]["kind"] == OLD_MAIN else None
        done = main is not None and os.path.lexists(os.path.join(folder, main["name"]))
        with suppress(OSError):
            for match in members:
                old, final = (os.path.join(folder, name) for name in (match.string, match["name"]))
                if done or (main is None and os.path.lexists(final)):
                    os.unlink(old)
                else:
                    os.replace(old, final)
