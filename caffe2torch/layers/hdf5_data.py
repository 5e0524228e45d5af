"""HDF5Data: arrays from HDF5 files."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._data import DataLayer


@register_layer()
class HDF5Data(DataLayer):
    """One top for each data set in the files, shaped as there (Caffe: hdf5_data_layer.cpp)."""

    type = "HDF5Data"
    tops = (1, None)
    parameter = "hdf5_data_param"
