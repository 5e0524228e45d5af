"""What the tests of data layers share."""

from __future__ import annotations

from refusals import resolved

from caffe2torch.layers._base import Role
from caffe2torch.layers._data import DataLayer


def data_layer(fields: str) -> DataLayer:
    """The resolved data layer with the tops ``data`` and ``label``."""
    layer = resolved(f'top: "data" top: "label" {fields}')
    assert isinstance(layer, DataLayer)
    assert layer.role is Role.DATA
    return layer
