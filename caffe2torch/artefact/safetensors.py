"""The .safetensors form."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.graph import FloatArray
from caffe2torch.io.arrays import write_array


def write_safetensors(
    file: BinaryIO, params: Mapping[str, FloatArray], metadata: Mapping[str, str]
) -> None:
    """Write the safetensors format: header length, JSON header, then the arrays as they lie.

    The arrays are float32 or float16; ``metadata`` is the header's ``__metadata__``.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for key, array in params.items():
        end = offset + array.nbytes
        header[key] = {
            "dtype": "F16" if array.dtype == np.float16 else "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for array in params.values():
        write_array(file, array)
