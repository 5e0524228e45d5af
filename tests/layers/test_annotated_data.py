from __future__ import annotations

from data_layers import data_layer


def test_size_is_that_of_the_resize() -> None:
    layer = data_layer(
        'type: "AnnotatedData" data_param { batch_size: 8 } transform_param { mean_value: 104 '
        "mean_value: 117 mean_value: 123 resize_param { height: 300 width: 200 } }"
    )
    assert (layer.batch_size, layer.crop, layer.channels) == (8, (300, 200), None)
    assert layer.preprocessing.mean == (104, 117, 123)
