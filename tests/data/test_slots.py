import gc
import pickle

import numpy as np
import pytest
import torch

from caffe2torch.data.slots import Slots
from caffe2torch.errors import WorkerError


def filled(slots, slot, rows, value):
    slots.array(slot, rows)[:] = value
    return pickle.loads(pickle.dumps(slots.sent(slot, rows)))


def test_a_slot_arrives_as_a_tensor_without_a_copy():
    slots = Slots(2, (5, 2, 3), np.float32)
    tensor = filled(slots, slots.take(5), 4, 2.5)
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [[[2.5] * 3] * 2] * 4
    slots.array(0, 5)[:] = 7
    assert (tensor == 7).all()


def test_a_slot_is_taken_again_when_no_view_of_it_is_left():
    slots = Slots(1, (4, 3), np.uint8)
    tensor = filled(slots, slots.take(4), 4, 1)
    view = tensor.permute(1, 0)[1:]
    array = view.numpy()
    assert slots.take(4) is None
    del tensor
    assert slots.take(4) is None
    del view
    assert slots.take(4) is None
    del array
    gc.collect()
    assert slots.take(4) == 0


def test_tensors_outlive_the_slots():
    slots = Slots(1, (4, 3), np.uint8)
    tensor = filled(slots, slots.take(4), 4, 6)
    del slots
    gc.collect()
    assert (tensor == 6).all()


def test_no_slot_is_given_for_more_rows_than_it_has():
    slots = Slots(3, (4, 3), np.uint8)
    assert slots.take(5) is None
    assert [slots.take(rows) for rows in (4, 0, 1, 1)] == [0, 1, 2, None]
    assert Slots(0, (4, 3), np.uint8).take(1) is None
    assert Slots(0, (0, 3), np.uint8).take(0) is None


def test_a_slot_is_filled_with_arrays_of_its_shape_and_type_alone():
    slots = Slots(1, (4, 3), np.uint8)
    values = np.arange(12, dtype=np.uint8).reshape(4, 3)
    assert slots.fill(0, values)
    np.testing.assert_array_equal(slots.array(0, 4), values)
    for other in (values.astype(np.float32), values[:, :2], values[None]):
        assert not slots.fill(0, other)
    np.testing.assert_array_equal(slots.array(0, 4), values)


def test_images_lie_in_a_slot_in_the_order_of_their_memory():
    for channels_last in (False, True):
        slots = Slots(2, (5, 3, 4, 6), np.uint8, channels_last=channels_last)
        tensor = filled(slots, slots.take(5), 4, 9)
        assert tensor.shape == (4, 3, 4, 6)
        assert tensor.is_contiguous() is not channels_last
        assert tensor.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_shared_memory_that_is_short_is_an_error_with_a_way_out(monkeypatch):
    def share(tensor):
        raise RuntimeError("unable to allocate shared memory(shm)\nException raised from ...")

    monkeypatch.setattr(torch.Tensor, "share_memory_", share)
    message = r"^no 6 MB of shared .*\(unable to allocate shared memory\(shm\)\): .*--workers 0"
    with pytest.raises(WorkerError, match=message):
        Slots(2, (3, 1000, 1000), np.uint8)
    assert Slots(0, (3, 1000, 1000), np.uint8).take(3) is None
