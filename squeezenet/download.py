"""Published files: fetched once, checked against their manifest before anyone sees them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.request
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.io.atomic import atomic_write
from squeezenet.deploy import find_architecture


@dataclass(frozen=True)
class Published:
    """One published file. ``checksums`` are named sha256, sha384, sha512 or git_blob."""

    name: str
    version: str
    file: str
    url: str
    size: int
    checksums: Mapping[str, str]
    licence: str
    author: str

    @property
    def use(self) -> str:
        """How to use the file where it was fetched by hand."""
        return f"load_pretrained({self.version!r}, weights={self.file!r})"

    def find_fault(self, data: bytes) -> str | None:
        """Why ``data`` is not the published file; None if it is."""
        if len(data) < self.size:
            return f"it is truncated: {len(data):,} of {self.size:,} bytes"
        if len(data) > self.size:
            return f"it is longer than the {self.size:,} bytes it should have"
        for kind, expected in self.checksums.items():
            actual = _checksum(kind, data)
            if actual != expected:
                return f"its {kind} is {actual}, not {expected}: it is damaged or was tampered with"
        return None


@dataclass(frozen=True)
class Manifest(Published):
    """Published weights.

    ``accuracy`` counts the images out of ``count`` that the genuine Caffe got right.
    """

    parameters: int
    num_classes: int
    preprocessing: Mapping[str, Any]
    accuracy: Mapping[str, Any]


def read_manifest(version: str) -> Manifest:
    """The manifest of the published weights of a version. Raises NetError for no such version."""
    find_architecture(version)
    path = models_folder() / f"squeezenet_v{version}.json"
    return Manifest(**json.loads(path.read_text(encoding="utf-8")))


def models_folder() -> Path:
    """Beside this file in an installed package, ``models`` in the source tree."""
    installed = Path(__file__).with_name("manifests")
    return installed if installed.is_dir() else Path(__file__).parents[1] / "models"


def _checksum(kind: str, data: bytes) -> str:
    if kind == "git_blob":
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return hashlib.new(kind, data).hexdigest()


URL_BASE_VARIABLE = "CAFFE2TORCH_SQUEEZENET_URL_BASE"
"""Environment variable: a mirror that holds the files under their own names."""

TIMEOUT_S = 30.0
"""Without a byte from the server for so long, the attempt is given up."""


class DownloadError(Caffe2TorchError):
    """A published file cannot be fetched, or what came is not it."""


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where downloads are kept: ``cache_dir``, $CAFFE2TORCH_CACHE, or in the user's cache."""
    chosen = cache_dir or os.environ.get("CAFFE2TORCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "caffe2torch"


def fetch(manifest: Published, folder: Path) -> Path:
    """The published file in the cache ``folder``, fetched if it is not there or is damaged.

    Its checksums are verified at each call (20 ms). Of several processes that find none, one
    downloads and the others wait for it; a process that was killed keeps nobody waiting, and
    its download is begun anew. A file in the cache is enough: the folder need not be writable.

    Raises:
        DownloadError: the file is not in the cache and cannot be fetched, or the folder
            cannot be used.
    """
    path = folder / manifest.file
    if _fault(manifest, path) is None:
        return path
    with _lock(folder, manifest):
        # Another process may have filled the cache while this one waited.
        fault = _fault(manifest, path)
        if fault:
            if path.exists():
                warnings.warn(f"{path} is fetched anew: {fault}", stacklevel=3)
            data = download(manifest)
            with atomic_write(path) as file:
                file.write(data)
    return path


def _fault(manifest: Published, path: Path) -> str | None:
    """Why there is no whole published file at ``path``; None if there is."""
    try:
        return manifest.find_fault(path.read_bytes())
    except FileNotFoundError:
        return "there is none"
    except OSError as error:
        raise _unusable(path.parent, error) from error


def _lock(folder: Path, manifest: Published) -> AbstractContextManager[Any]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f".{manifest.file}.lock").acquire()
    except (OSError, NotImplementedError) as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: Exception) -> DownloadError:
    return DownloadError(
        f"cannot use the cache folder {folder}: {error}. Give one that is writable: "
        "cache_dir=..., or the environment variable CAFFE2TORCH_CACHE."
    )


def download(manifest: Published, url_base: str | None = None) -> bytes:
    """The published file's content, verified by size and checksums.

    ``url_base`` (default: $CAFFE2TORCH_SQUEEZENET_URL_BASE) replaces the publisher's site.

    Raises:
        DownloadError: the server cannot be reached, or sends something else; the message
            says how to fetch the file by hand.
    """
    base = url_base or os.environ.get(URL_BASE_VARIABLE)
    url = f"{base.rstrip('/')}/{manifest.file}" if base else manifest.url
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "caffe2torch"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            data: bytes = response.read(manifest.size + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(_message(manifest, f"cannot download {url}: {error}")) from error
    fault = manifest.find_fault(data)
    if fault:
        raise DownloadError(
            _message(manifest, f"what {url} sent is not the published file: {fault}")
        )
    return data


def _message(manifest: Published, problem: str) -> str:
    sums = ", ".join(f"{kind} {value}" for kind, value in manifest.checksums.items())
    return (
        f"{problem}\n"
        "Nothing was stored. Try again, or fetch the file by hand from\n"
        f"  {manifest.url}\n"
        f"  ({manifest.size:,} bytes, {sums})\n"
        f"and pass its path: {manifest.use}"
    )
