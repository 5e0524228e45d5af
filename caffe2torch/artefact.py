"""Converted files: .safetensors, .pt and .onnx, written whole or not at all."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io._fields import BYTES, tag_bytes, varint_bytes
from caffe2torch.version import __version__

FORMAT = "caffe2torch"
FORMAT_VERSION = 1
SUFFIXES = (".pt", ".safetensors", ".onnx")
CHUNK = 4 << 20
"""Bytes copied at a time where an array cannot be written from its own memory."""


def metadata_of(graph: Graph, architecture: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what an artefact records besides the weights; plain JSON values only.

    ``architecture`` names a known model and its variant, where the net is one.
    """
    output = graph.shapes[graph.blobs[graph.outputs[0]]] if len(graph.outputs) == 1 else ()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "caffe2torch_version": __version__,
        "source_sha256": graph.source_sha256,
        "name": graph.name,
        "phase": graph.phase,
        "inputs": {i.name: list(i.shape) for i in graph.inputs},
        "outputs": list(graph.outputs),
        "blobs": list(graph.blobs),
        "num_classes": output[1] if len(output) > 1 else None,
        "preprocessing": asdict(graph.preprocessing) if graph.preprocessing else None,
        "architecture": dict(architecture) if architecture else None,
        "definition": graph.definition,
    }


def write_safetensors(
    file: BinaryIO, params: Mapping[str, FloatArray], metadata: Mapping[str, Any]
) -> None:
    """Write the safetensors format: header length, JSON header, then the arrays as they lie."""
    header: dict[str, Any] = {"__metadata__": {FORMAT: _dumps(metadata)}}
    offset = 0
    for key, array in params.items():
        end = offset + array.size * 4
        header[key] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for array in params.values():
        write_array(file, array)


def write_pt(file: BinaryIO, params: Mapping[str, FloatArray], metadata: Mapping[str, Any]) -> None:
    """Write ``torch.save({"metadata", "state_dict"})``: loads with ``weights_only=True``."""
    import torch

    from caffe2torch.lower.to_torch import tensor_of

    state = {
        key: tensor_of(np.require(array, requirements=["C", "A"])) for key, array in params.items()
    }
    torch.save({"metadata": _dumps(metadata), "state_dict": state}, file)


def write_onnx(file: BinaryIO, graph: Graph, metadata: Mapping[str, Any]) -> None:
    """Write the ONNX form. Raises UnsupportedLayerError where ONNX has none."""
    from caffe2torch.lower.to_onnx import to_onnx

    model = to_onnx(graph)
    entry = model.skeleton.metadata_props.add()
    entry.key, entry.value = FORMAT, _dumps(metadata)
    file.write(model.skeleton.SerializeToString(deterministic=True))
    for name, array in model.weights.items():
        _write_initializer(file, name, array)


def read_artefact(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Return metadata and arrays of a ``.pt`` or ``.safetensors`` artefact.

    Raises ArtefactError if it is not one, or one of a later format version.
    """
    reader = _read_safetensors if is_safetensors(path) else _read_pt
    text, params = reader(Path(path))
    try:
        metadata = json.loads(text)
    except (TypeError, ValueError) as error:
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
        if array.dtype != np.float32:
            raise _not_ours(Path(path), f"the array {key!r} is {array.dtype}, not float32")
    return metadata, params


def is_artefact(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` looks like a .pt or .safetensors file, by its content."""
    return is_safetensors(path) or _starts_with(path, b"PK\x03\x04")


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins with a safetensors header."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def write_array(file: BinaryIO, array: FloatArray) -> None:
    """Write the float32 values of ``array`` in C order, from its own memory if it can be."""
    if array.flags.c_contiguous:
        file.write(array.reshape(-1).view(np.uint8).data if array.size else b"")
        return
    rows = max(1, CHUNK // max(1, array[0].nbytes))
    for start in range(0, array.shape[0], rows):
        file.write(np.ascontiguousarray(array[start : start + rows]).tobytes())


def _write_initializer(file: BinaryIO, name: str, array: FloatArray) -> None:
    """Append ModelProto { graph { initializer } }: protobuf merges it into the graph."""
    from caffe2torch.lower.to_onnx import initializer_header

    tensor = initializer_header(name, array.shape) + _field(9, array.size * 4)
    tensor_length = len(tensor) + array.size * 4
    initializer = _field(5, tensor_length)
    file.write(_field(7, len(initializer) + tensor_length) + initializer + tensor)
    write_array(file, array)


def _field(number: int, length: int) -> bytes:
    """The tag and length of a length-delimited protobuf field."""
    return tag_bytes(number, BYTES) + varint_bytes(length)


def _dumps(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, sort_keys=True)


def _starts_with(path: str | os.PathLike[str], magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _read_safetensors(path: Path) -> tuple[Any, dict[str, FloatArray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(FORMAT)
            return text, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise _not_ours(path, str(error)) from error


def _read_pt(path: Path) -> tuple[Any, dict[str, FloatArray]]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content["state_dict"]
        return content["metadata"], {key: tensor.numpy() for key, tensor in state.items()}
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        cause = str(error).split("\n", maxsplit=1)[0]
        raise _not_ours(path, cause) from error


def _not_ours(path: Path, cause: str) -> ArtefactError:
    return ArtefactError(
        f"{path} is not a file that caffe2torch wrote ({cause}). Give a .caffemodel, or a .pt or "
        ".safetensors made by `caffe2torch convert`."
    )
