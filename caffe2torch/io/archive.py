"""ZIP archives that others made: looked over before a library unpacks them."""

from __future__ import annotations

import os
import zipfile

from caffe2torch.errors import ReadError

FLOOR = 64 << 20
"""Bytes that any archive may unpack to."""


def check_archive(path: str | os.PathLike[str], max_ratio: int) -> None:
    """Raise ReadError unless the files in the archive are whole and can be held in memory.

    Together they may have ``max_ratio`` times the bytes of the archive. With 1 they must be
    stored uncompressed, as PyTorch stores them.
    """
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except Exception as error:  # zipfile raises many kinds; whatever it is, the file is bad.
        raise ReadError(f"{path}: the ZIP archive is truncated or corrupt ({error})") from None
    unpacked = sum(file.file_size for file in files)
    packed = max_ratio == 1 and any(file.compress_type != zipfile.ZIP_STORED for file in files)
    limit = size if max_ratio == 1 else max(FLOOR, max_ratio * size)
    if packed or unpacked > limit:
        raise ReadError(
            f"{path}: the ZIP archive of {size:,} bytes would unpack to {unpacked:,}; no such "
            "file is made by saving arrays"
        )
