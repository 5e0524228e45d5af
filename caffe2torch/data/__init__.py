"""What Caffe's data layers read: databases, image lists and arrays, as batches of tensors."""

from caffe2torch.data.data import Data
from caffe2torch.data.dummy_data import DummyData
from caffe2torch.data.hdf5_data import HDF5Data
from caffe2torch.data.source import SOURCES, Source, open_source, register_source

__all__ = [
    "SOURCES",
    "Data",
    "DummyData",
    "HDF5Data",
    "Source",
    "open_source",
    "register_source",
]
