"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from uuid import uuid4

from caffe2torch.errors import ArtefactError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` once the block ends without an error.

    Until then, and after an error, ``path`` is what it was before. Raises ArtefactError where
    the file system refuses.
    """
    final = os.path.realpath(path)
    # In the same folder: a rename is atomic only within a file system.
    part = f"{final}.{uuid4().hex[:8]}.part"
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, final)
    except OSError as error:
        raise ArtefactError(f"{os.fspath(path)}: cannot be written: {error.strerror}") from error
    finally:
        if os.path.exists(part):
            os.unlink(part)
