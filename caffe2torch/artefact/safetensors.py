"""The .safetensors form."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.artefact.write import (
    FORMAT,
    PathLike,
    contents_of,
    draft,
    dumps,
    register_writer,
)
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io.arrays import Progress, header_last, ignore, seekable, write_array
from caffe2torch.io.atomic import atomic_write


@register_writer(".safetensors")
def write_graph_safetensors(
    path: PathLike,
    graph: Graph,
    *,
    half: bool,
    durable: bool,
    progress: Progress,
    bare: bool = False,
) -> None:
    """Write the .safetensors form, without our metadata if ``bare``; arguments as of ``Writer``."""
    params, metadata = contents_of(graph, half=half, bare=bare)
    with atomic_write(path, durable) as file:
        write_safetensors(file, params, metadata, progress=progress)


def write_safetensors(
    file: BinaryIO,
    params: Mapping[str, FloatArray],
    metadata: Mapping[str, Any] | None,
    progress: Progress = ignore,
) -> None:
    """Write the safetensors format: header length, JSON header, then the arrays as they lie.

    The arrays are float32 or float16. The header's ``__metadata__`` is ``format: pt``, by which
    transformers and others know torch's layout, and, under our name, the text of ``metadata``.
    """
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, array in params.items():
        end = offset + array.nbytes
        content[key] = {
            "dtype": "F16" if array.dtype == np.float16 else "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end

    def header(text_of: Callable[[Mapping[str, Any]], str]) -> bytes:
        if metadata:
            content["__metadata__"][FORMAT] = text_of(metadata)
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    with seekable(file) as out, header_last(out, header(draft), lambda: header(dumps)):
        for array in params.values():
            write_array(out, array, progress)
