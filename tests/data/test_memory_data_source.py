import numpy as np
import pytest
from data_nets import source

from caffe2torch.errors import NetError

TEXT = "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }"


def memory(text=TEXT, **options):
    return source(text, kind="MemoryData", **options)


def arrays(rows=4, shape=(3, 4, 5)):
    rng = np.random.default_rng(0)
    return rng.random((rows, *shape), np.float32), np.arange(rows, dtype=np.float32)


def test_batches_of_the_arrays_over_and_over():
    opened = memory()
    assert opened.shapes == ((2, 3, 4, 5), (2,))
    data, labels = arrays()
    opened.set_arrays(data, labels.reshape(4, 1, 1, 1))
    data[3] = 7  # What is written later counts.
    for index, part in ((0, slice(0, 2)), (1, slice(2, 4)), (2, slice(0, 2))):
        images, found = opened.batch(index)
        np.testing.assert_array_equal(images, data[part])
        np.testing.assert_array_equal(found, labels[part])


def test_without_arrays():
    with pytest.raises(NetError, match=r"layer 'data' \(MemoryData\): .*and none are set: train"):
        memory().batch(0)


@pytest.mark.parametrize(
    ("data", "labels", "cause"),
    [
        (*arrays(3), "3 rows are no multiple of the batch size 2"),
        (*arrays(0), "0 rows are no multiple"),
        (*arrays(shape=(3, 5, 4)), r"the data are \(4, 3, 5, 4\) .* \(rows, 3, 4, 5\) of float32"),
        (arrays()[0].astype("f8"), arrays()[1], "of float64; they must be"),
        (arrays()[0], arrays(2)[1], r"the labels are \(2,\) .* \(4,\) of float32"),
        (arrays()[0], np.arange(4), "of int64"),
    ],
)
def test_arrays_that_caffe_refuses(data, labels, cause):
    with pytest.raises(NetError, match=cause):
        memory().set_arrays(data, labels)


def test_sizes_are_positive():
    with pytest.raises(NetError, match=r"memory_data_param.width: must be positive"):
        memory("memory_data_param { batch_size: 2 channels: 3 height: 4 }")
