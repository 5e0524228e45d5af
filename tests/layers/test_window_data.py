from __future__ import annotations

from data_layers import data_layer


def test_size_is_the_crop() -> None:
    layer = data_layer(
        'type: "WindowData" window_data_param { batch_size: 128 } '
        'transform_param { crop_size: 227 mean_file: "mean.binaryproto" mirror: true }'
    )
    assert (layer.batch_size, layer.crop, layer.channels) == (128, (227, 227), None)
    assert layer.preprocessing.mean_file == "mean.binaryproto"
