from __future__ import annotations

import pytest
from data_layers import data_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("param", "transform", "crop", "channels"),
    [
        ("", "", None, 3),
        ("is_color: false", "", None, 1),
        ("new_height: 5 new_width: 7", "", (5, 7), 3),
        ("new_height: 5 new_width: 7", "crop_size: 3", (3, 3), 3),
    ],
)
def test_size(param: str, transform: str, crop: tuple[int, int] | None, channels: int) -> None:
    layer = data_layer(
        f'type: "ImageData" image_data_param {{ {param} }} transform_param {{ {transform} }}'
    )
    assert (layer.batch_size, layer.crop, layer.channels) == (1, crop, channels)


def test_refuses_one_side_of_a_size() -> None:
    error = refusal('type: "ImageData" top: "d" top: "l" image_data_param { new_width: 7 }')
    assert isinstance(error, NetError)
    assert "give both new_height and new_width" in str(error)
