"""The .safetensors form."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from caffe2torch.io.arrays import write_array
from caffe2torch.artefact.metadata import FORMAT, dumps
from caffe2torch.graph import FloatArray


def write_safetensors(
    file: BinaryIO, params: Mapping[str, FloatArray], metadata: Mapping[str, Any]
) -> None:
    """Write the safetensors format: header length, JSON header, then the arrays as they lie."""
    header: dict[str, Any] = {"__metadata__": {FORMAT: dumps(metadata)}}
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
