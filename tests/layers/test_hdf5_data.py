from __future__ import annotations

from data_layers import data_layer


def test_only_the_file_knows_the_size() -> None:
    layer = data_layer('type: "HDF5Data" top: "more" hdf5_data_param { batch_size: 10 }')
    assert (layer.batch_size, layer.crop, layer.channels) == (10, None, None)
