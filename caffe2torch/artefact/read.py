"""Read an artefact back: .pt and .safetensors."""

from __future__ import annotations

import json
import os
import struct
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from caffe2torch.artefact.write import FORMAT, FORMAT_VERSION
from caffe2torch.errors import ArtefactError, Caffe2TorchWarning, ReadError
from caffe2torch.graph import FloatArray


def read_artefact(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Return metadata and arrays of a ``.pt`` or ``.safetensors`` artefact.

    Arrays in half precision are widened to float32, with a warning that they had been rounded.
    Raises ArtefactError if it is not one, or one of a later format version.
    """
    reader = _read_safetensors if is_safetensors(path) else _read_pt
    text, params = reader(Path(path))
    try:
        metadata = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_ours(Path(path), "its metadata is not JSON") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise _not_ours(Path(path), "it does not say that it is one")
    version = metadata.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format version {version}; this caffe2torch reads up to "
            f"{FORMAT_VERSION}. Update caffe2torch."
        )
    for key, array in params.items():
        if not isinstance(key, str) or array.dtype not in (np.float32, np.float16):
            raise _not_ours(Path(path), f"the array {key!r} is {array.dtype}, not float32")
    if any(array.dtype == np.float16 for array in params.values()):
        warnings.warn(
            f"{os.fspath(path)} holds weights that were rounded to half precision; they are "
            "widened to float32",
            Caffe2TorchWarning,
            stacklevel=2,
        )
    return metadata, {key: array.astype(np.float32, copy=False) for key, array in params.items()}


def is_artefact(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` looks like a .pt or .safetensors file, by its content."""
    return is_safetensors(path) or _is_torch_zip(path)


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins with a safetensors header."""
    head = _head(path, 9)
    if len(head) < 9 or head[8:] != b"{":
        return False
    return bool(struct.unpack("<Q", head[:8])[0] <= os.path.getsize(path) - 8)


def _is_torch_zip(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a ZIP archive with a pickle in it, or with a damaged directory."""
    if _head(path, 4) != b"PK\x03\x04":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except Exception:  # zipfile raises many kinds; the reader says what is wrong.
        return True


def _head(path: str | os.PathLike[str], count: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


def _read_safetensors(path: Path) -> tuple[Any, dict[str, FloatArray]]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(FORMAT)
            keys = list(file.keys())
            if text is None:
                _refuse_bare(path, keys)
            return text, {key: file.get_tensor(key) for key in keys}
    except ArtefactError:
        raise
    except Exception as error:  # The kinds differ by version: SafetensorError, or any other.
        raise _not_ours(path, str(error)) from error


def _read_pt(path: Path) -> tuple[Any, dict[str, FloatArray]]:
    from torch import Tensor

    from caffe2torch.artefact.torch_file import load_torch

    try:
        content = load_torch(path)
    except ReadError as error:
        raise _not_ours(path, error.reason.removeprefix(f"{path}: ")) from None
    if isinstance(content, dict) and all(isinstance(v, Tensor) for v in content.values()):
        _refuse_bare(path, content)
    try:
        state = content["state_dict"].items()
        return content["metadata"], {key: tensor.numpy() for key, tensor in state}
    except (KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise _not_ours(path, f"it holds something else: {error}") from error


def _refuse_bare(path: Path, keys: Collection[Any]) -> None:
    """Refuse a state_dict without its net by name; torchvision's has a remedy of its own."""
    layout, option = "", "--bare"
    if "features.0.weight" in keys:
        layout, option = " in torchvision's layout", "--layout"
    raise ArtefactError(
        f"{path} is a bare state_dict{layout}, which does not say what net it belongs to: it is "
        "for load_state_dict. Give the .caffemodel, or convert that without "
        f"{option}."
    )


def _not_ours(path: Path, cause: str) -> ArtefactError:
    return ArtefactError(
        f"{path} is not a file that caffe2torch wrote ({cause}). Give a .caffemodel, or a .pt or "
        ".safetensors made by `caffe2torch convert`."
    )
