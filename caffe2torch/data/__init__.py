"""What Caffe's data layers read: databases, image lists and arrays, as batches of tensors."""

from caffe2torch.data.source import SOURCES, Source, open_source, register_source

__all__ = ["SOURCES", "Source", "open_source", "register_source"]
