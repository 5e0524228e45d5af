"""Coordinates of tops in each other, and the Crop layer of them (fully convolutional nets)."""

from __future__ import annotations

import numpy as np
import pytest

from caffe2torch.pycaffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from caffe2torch.pycaffe.net_spec import NetSpec, layers


def net(pool=2, up=2, pad=0, up_pad=0, kernel=3, stride=1) -> NetSpec:
    n = NetSpec()
    n.data = layers.Input(shape={"dim": [2, 1, 100, 100]})
    n.conv = layers.Convolution(n.data, num_output=2, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = layers.Pooling(n.conv, kernel_size=pool, stride=pool)
    n.up = layers.Deconvolution(
        n.pool,
        convolution_param={"num_output": 2, "kernel_size": 2 * up, "stride": up, "pad": up_pad},
    )
    return n


@pytest.mark.parametrize(
    ("options", "scale", "shift"),
    [
        ({}, 1, 0),
        ({"pool": 4, "up": 4}, 1, -1),
        ({"pad": 3}, 1, -3),
        ({"up_pad": 3}, 1, 3),
        ({"pad": 2, "up_pad": 2}, 1, 0),
        ({"kernel": [3, 5], "stride": [1, 2], "pad": [0, 10]}, [1, 2], [0, -10]),
    ],
)
def test_maps_go_through_convolution_pooling_and_back(options, scale, shift) -> None:
    n = net(**options)
    axis, found_scale, found_shift = coord_map_from_to(n.up, n.data)
    assert axis == 1
    np.testing.assert_array_equal(found_scale, np.atleast_1d(scale))
    np.testing.assert_array_equal(found_shift, np.atleast_1d(shift))
    n.relu = layers.ReLU(n.up)
    assert coord_map_from_to(n.relu, n.data)[2].tolist() == found_shift.tolist()


def test_a_crop_has_the_offset_of_its_tops() -> None:
    n = net(pool=4, up=4, pad=9)
    cut = crop(n.up, n.data)
    assert cut.fn.inputs == (n.up, n.data)
    assert cut.fn.params == {"crop_param": {"axis": 2, "offset": [10]}}
    assert cut.to_proto().layer[-1].crop_param.offset == [10]
    axis, _, shift = coord_map_from_to(layers.ReLU(cut), n.data)
    assert (axis, shift.tolist()) == (1, [0])


def test_tops_of_the_same_place_are_cut_from_the_first_spatial_axis() -> None:
    n = net()
    assert crop(layers.ReLU(n.conv), n.conv).fn.params["crop_param"] == {"axis": 2, "offset": [0]}


def test_what_cannot_be_cut_or_mapped_is_refused() -> None:
    with pytest.raises(AssertionError, match="other scales"):
        crop((n := net(pool=3)).up, n.data)
    with pytest.raises(AssertionError, match="negative"):
        crop((n := net(up_pad=10)).up, n.data)
    with pytest.raises(AssertionError, match="no whole number"):
        crop((n := net(kernel=4, pad=3)).up, n.data)
    n = net()
    with pytest.raises(RuntimeError, match="not connected by layers"):
        coord_map_from_to(layers.InnerProduct(n.up, num_output=2), n.data)
    with pytest.raises(UndefinedMapException, match="InnerProduct"):
        coord_map(layers.InnerProduct(n.up).fn)
    with pytest.raises(KeyError, match="kernel_size"):
        coord_map(layers.Pooling(n.up, global_pooling=True).fn)
    with pytest.raises(AssertionError, match="stride_h"):
        coord_map(layers.Pooling(n.up, kernel_size=2, stride_h=2).fn)
    with pytest.raises(AxisMismatchException, match="axis 1, the other at 2"):
        compose((1, 1, 0), (2, 1, 0))


def test_an_inverse_takes_a_map_back() -> None:
    there = (1, np.array([0.5]), np.array([-0.25]))
    axis, scale, shift = compose(there, inverse(there))
    assert (axis, scale.tolist(), shift.tolist()) == (1, [1], [0])
