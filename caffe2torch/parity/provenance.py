"""What a check rests on: checksums of the files and versions of the libraries."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from caffe2torch.io.checksum import sha256
from caffe2torch.version import __version__

LIBRARIES = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "openvino",
    "protobuf",
)
"""The distributions that read, compute or compare; OpenCV comes under several names."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """A file that a check read: its part in it, name, size in bytes and SHA-256."""

    role: str
    path: str
    bytes: int
    sha256: str


def versions() -> dict[str, str]:
    """Versions by name: caffe2torch, Python, the platform and the installed libraries."""
    found = {
        "caffe2torch": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def file_records(paths: Mapping[str, str | os.PathLike[str] | None]) -> list[FileRecord]:
    """A record for every path of ``{role: path}`` that is a file."""
    return [
        _record(role, os.fspath(path))
        for role, path in paths.items()
        if path is not None and os.path.isfile(path)
    ]


def _record(role: str, path: str) -> FileRecord:
    with open(path, "rb") as file:
        digest = sha256(iter(lambda: file.read(_CHUNK), b""))
        return FileRecord(role, path, file.tell(), digest)
