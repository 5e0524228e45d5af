import numpy as np
import pytest
from data_nets import source

from caffe2torch.errors import NetError, UnsupportedLayerError


def dummy(fields, tops=("a", "b"), **options):
    return source(f"dummy_data_param {{ {fields} }}", kind="DummyData", tops=tops, **options)


def test_constants_and_random_numbers():
    opened = dummy(
        "shape { dim: 2 dim: 300 } shape { dim: 4 } "
        'data_filler { type: "gaussian" mean: 3 std: 0.1 } data_filler { value: 7 }'
    )
    assert opened.shapes == ((2, 300), (4,))
    first, second, again = opened.batch(0), opened.batch(1), opened.batch(0)
    assert first[1].tolist() == second[1].tolist() == [7] * 4
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], second[0])
    assert abs(first[0].mean() - 3) < 0.05  # 12 standard errors.


def test_one_filler_or_none_for_all_tops_and_old_shapes():
    fields = 'num: 2 channels: 3 height: 5 height: 6 width: 7 data_filler { type: "uniform" }'
    opened = dummy(fields)
    assert opened.shapes == ((2, 3, 5, 7), (2, 3, 6, 7))
    assert all(0 < top.min() < top.max() < 1 for top in opened.batch(0))
    assert all(not top.any() for top in dummy("shape { dim: 3 }").batch(0))


def test_processes_draw_different_numbers():
    fields = 'shape { dim: 9 } data_filler { type: "uniform" }'
    a, b = (dummy(fields, rank=rank, world=2).batch(0)[0].tolist() for rank in range(2))
    assert a != b


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ("shape { dim: 3 } shape { dim: 3 } shape { dim: 3 }", "shape: it is given 3 times"),
        ("shape { dim: 3 } num: 2 channels: 1 height: 1 width: 1", "both shape and the old"),
        ('shape { dim: 3 } data_filler { type: "gaussian" std: 0 }', "std 0 must be positive"),
        ('shape { dim: 3 } data_filler { type: "gaussian" sparse: 4 }', "sparse 4 is above 3"),
    ],
)
def test_what_caffe_refuses(fields, cause):
    with pytest.raises(NetError, match=cause):
        dummy(fields)


def test_an_unknown_filler():
    with pytest.raises(UnsupportedLayerError, match="unknown filler type 'nothing'"):
        dummy('shape { dim: 3 } data_filler { type: "nothing" }').batch(0)


def test_an_unknown_type():
    with pytest.raises(
        UnsupportedLayerError, match=r"layer 'data' \(Data2\), type: .*can are Data, DummyData"
    ):
        source("", kind="Data2")
