from __future__ import annotations

from data_layers import data_layer
from refusals import refusal

from caffe2torch.errors import NetError


def test_size_is_all_there() -> None:
    layer = data_layer(
        'type: "MemoryData" memory_data_param { batch_size: 2 channels: 3 height: 5 width: 7 }'
    )
    assert (layer.batch_size, layer.crop, layer.channels) == (2, (5, 7), 3)


def test_a_fork_gives_one_size_an_axis() -> None:
    dims = " ".join(f"dim: {size}" for size in (1, 3, 2, 5, 7))
    layer = data_layer(f'type: "MemoryData" memory_data_param {{ {dims} }}')
    assert (layer.crop, layer.channels) == ((2, 5, 7), 3)


def test_refuses_a_missing_size() -> None:
    error = refusal(
        'type: "MemoryData" top: "d" top: "l" '
        "memory_data_param { batch_size: 2 channels: 3 height: 5 }"
    )
    assert isinstance(error, NetError)
    assert "memory_data_param.width: must be positive" in str(error)
