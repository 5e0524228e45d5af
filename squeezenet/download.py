"""Fetch published weights: one attempt, checked against the manifest before anyone sees them."""

from __future__ import annotations

import http.client
import os
import urllib.request
from pathlib import Path

from caffe2torch.errors import Caffe2TorchError
from squeezenet.manifest import Manifest

URL_BASE_VARIABLE = "CAFFE2TORCH_SQUEEZENET_URL_BASE"
"""Environment variable: a mirror that holds the files under their own names."""

TIMEOUT_S = 30.0
"""Without a byte from the server for so long, the attempt is given up."""


class DownloadError(Caffe2TorchError):
    """Published weights cannot be fetched, or what came is not the published file."""


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where downloads are kept: ``cache_dir``, $CAFFE2TORCH_CACHE, or in the user's cache."""
    chosen = cache_dir or os.environ.get("CAFFE2TORCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "caffe2torch"


def download(manifest: Manifest, url_base: str | None = None) -> bytes:
    """The published file's content, verified by size and checksums.

    ``url_base`` (default: $CAFFE2TORCH_SQUEEZENET_URL_BASE) replaces the publisher's site.

    Raises:
        DownloadError: the server cannot be reached, or sends something else; the message
            says how to fetch the file by hand.
    """
    url = _url(manifest, url_base)
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


def _url(manifest: Manifest, url_base: str | None) -> str:
    base = url_base or os.environ.get(URL_BASE_VARIABLE)
    return f"{base.rstrip('/')}/{manifest.file}" if base else manifest.url


def _message(manifest: Manifest, problem: str) -> str:
    sums = ", ".join(f"{kind} {value}" for kind, value in manifest.checksums.items())
    return (
        f"{problem}\n"
        "Nothing was stored. Try again, or fetch the file by hand from\n"
        f"  {manifest.url}\n"
        f"  ({manifest.size:,} bytes, {sums})\n"
        "and pass its path: "
        f"load_pretrained({manifest.version!r}, weights={manifest.file!r})"
    )
