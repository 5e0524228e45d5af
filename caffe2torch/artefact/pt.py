"""The .pt form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.artefact.metadata import dumps
from caffe2torch.graph import FloatArray


def write_pt(file: BinaryIO, params: Mapping[str, FloatArray], metadata: Mapping[str, Any]) -> None:
    """Write ``torch.save({"metadata", "state_dict"})``: loads with ``weights_only=True``."""
    import torch

    from caffe2torch.lower.to_torch import tensor_of

    state = {
        key: tensor_of(np.require(array, requirements=["C", "A"])) for key, array in params.items()
    }
    torch.save({"metadata": dumps(metadata), "state_dict": state}, file)
