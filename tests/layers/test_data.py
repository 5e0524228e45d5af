from __future__ import annotations

import pytest
from data_layers import data_layer
from refusals import refusal

from caffe2torch.errors import NetError
from caffe2torch.preprocessing import Preprocessing


def test_transform_param_is_the_preprocessing() -> None:
    layer = data_layer(
        'type: "Data" data_param { source: "db" batch_size: 32 } transform_param { crop_size: 227 '
        "mirror: true scale: 0.5 mean_value: 104 mean_value: 117 mean_value: 123 }"
    )
    assert layer.preprocessing == Preprocessing(
        crop_size=227, mean=(104, 117, 123), scale=0.5, mirror=True
    )
    assert (layer.batch_size, layer.crop, layer.channels) == (32, (227, 227), None)


def test_mean_file() -> None:
    layer = data_layer('type: "Data" transform_param { mean_file: "mean.binaryproto" }')
    assert layer.preprocessing == Preprocessing(mean_file="mean.binaryproto")
    assert layer.crop is None


@pytest.mark.parametrize(
    ("transform", "crop"),
    [
        ("crop_h: 5 crop_w: 7", (5, 7)),
        ("crop_height: 5 crop_width: 7", (5, 7)),
        ("crop_height: 5", None),
        ("resize_param { height: 3 width: 5 }", (3, 5)),
        ("resize_param { height: 3 width: 5 resize_mode: FIT_LARGE_SIZE_AND_PAD }", (3, 5)),
        ("resize_param { height: 3 width: 5 resize_mode: FIT_SMALL_SIZE }", None),
        ("crop_size: 2 resize_param { height: 3 width: 5 }", (2, 2)),
    ],
)
def test_size(transform: str, crop: tuple[int, int] | None) -> None:
    assert data_layer(f'type: "Data" transform_param {{ {transform} }}').crop == crop


def test_grey_images_have_one_channel() -> None:
    assert data_layer('type: "Data" transform_param { force_gray: true }').channels == 1


def test_refuses_two_means() -> None:
    error = refusal('type: "Data" top: "data" transform_param { mean_file: "m" mean_value: 1 }')
    assert isinstance(error, NetError)
    assert "both mean_file and mean_value" in str(error)
