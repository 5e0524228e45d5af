import pytest
from data_nets import source

from caffe2torch.errors import Caffe2TorchWarning, NetError

TEXT = "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }"


def memory(text=TEXT, **options):
    return source(text, kind="MemoryData", **options)


def test_shapes_and_no_batch():
    opened = memory()
    assert opened.shapes == ((2, 3, 4, 5), (2,))
    with pytest.raises(NetError, match=r"layer 'data' \(MemoryData\): .*and none are set: train"):
        opened.batch(0)


def test_arrays_are_not_transformed():
    with pytest.warns(Caffe2TorchWarning, match="does not read transform_param: without effect"):
        memory("transform_param { scale: 2 } " + TEXT)


def test_sizes_are_positive():
    with pytest.raises(NetError, match=r"memory_data_param.width: must be positive"):
        memory("memory_data_param { batch_size: 2 channels: 3 height: 4 }")


def test_two_tops():
    with pytest.raises(NetError, match="it has 1 tops; the type makes 2"):
        memory(tops=("data",))
