"""What is known of the published weights: where they lie, how to check them, what they do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet.architecture import find_architecture


@dataclass(frozen=True)
class Manifest:
    """One published file of weights. ``checksums`` are named sha256, sha384 or git_blob.

    ``accuracy`` counts the images out of ``count`` that the genuine Caffe got right.
    """

    name: str
    version: str
    file: str
    url: str
    size: int
    checksums: Mapping[str, str]
    licence: str
    author: str
    parameters: int
    num_classes: int
    preprocessing: Mapping[str, Any]
    accuracy: Mapping[str, Any]

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
