"""The .onnx form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from caffe2torch.artefact.metadata import FORMAT, dumps
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io._fields import BYTES, tag_bytes, varint_bytes
from caffe2torch.io.arrays import write_array


def write_onnx(
    file: BinaryIO, graph: Graph, metadata: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write the ONNX form, with its weights in half precision if ``half``.

    Raises UnsupportedLayerError where ONNX has none.
    """
    from caffe2torch.lower.to_onnx import to_onnx

    model = to_onnx(graph)
    if half:
        from caffe2torch.lower.onnx_half import halve

        model = halve(model)
    entry = model.skeleton.metadata_props.add()
    entry.key, entry.value = FORMAT, dumps(metadata)
    file.write(model.skeleton.SerializeToString(deterministic=True))
    for name, array in model.weights.items():
        _write_initializer(file, name, array)


def _write_initializer(file: BinaryIO, name: str, array: FloatArray) -> None:
    """Append ModelProto { graph { initializer } }: protobuf merges it into the graph."""
    from caffe2torch.lower.to_onnx import initializer_header

    tensor = initializer_header(name, array) + _field(9, array.nbytes)
    tensor_length = len(tensor) + array.nbytes
    initializer = _field(5, tensor_length)
    file.write(_field(7, len(initializer) + tensor_length) + initializer + tensor)
    write_array(file, array)


def _field(number: int, length: int) -> bytes:
    """The tag and length of a length-delimited protobuf field."""
    return tag_bytes(number, BYTES) + varint_bytes(length)
