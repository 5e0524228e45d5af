"""The .pt form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from caffe2torch.artefact.metadata import dumps
from caffe2torch.graph import FloatArray

if TYPE_CHECKING:
    from torch import Tensor


def write_pt(file: BinaryIO, params: Mapping[str, FloatArray], metadata: Mapping[str, Any]) -> None:
    """Write ``torch.save({"metadata", "state_dict"})``: loads with ``weights_only=True``."""
    import torch

    torch.save({"metadata": dumps(metadata), "state_dict": _tensors(params)}, file)


def write_state_dict(file: BinaryIO, params: Mapping[str, FloatArray]) -> None:
    """Write ``torch.save(state_dict)``, for ``module.load_state_dict(torch.load(...))``."""
    import torch

    torch.save(_tensors(params), file)


def _tensors(params: Mapping[str, FloatArray]) -> dict[str, Tensor]:
    from caffe2torch.lower.to_torch import tensor_of

    return {
        key: tensor_of(np.require(array, requirements=["C", "A"])) for key, array in params.items()
    }
