"""What Caffe's data layers read: databases, image lists and arrays, as batches of tensors."""

from caffe2torch.data.data import Data
from caffe2torch.data.dummy_data import DummyData
from caffe2torch.data.hdf5_data import HDF5Data
from caffe2torch.data.image_data import ImageData
from caffe2torch.data.memory_data import MemoryData
from caffe2torch.data.prefetch import Prefetched
from caffe2torch.data.source import SOURCES, Source, open_source, register_source
from caffe2torch.data.window_data import WindowData

__all__ = [
    "SOURCES",
    "Data",
    "DummyData",
    "HDF5Data",
    "ImageData",
    "MemoryData",
    "Prefetched",
    "Source",
    "WindowData",
    "open_source",
    "register_source",
]
