from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer
from refusals import refusal, resolved
from region_oracles import psroi_pooling, random_regions

from caffe2torch.errors import NetError
from caffe2torch.lower.eager import module_of

BOTTOMS = 'bottom: "map" bottom: "regions" top: "t"'


def layer(output_dim: int, group: int, scale: float = 1) -> str:
    return (
        f'type: "PSROIPooling" psroi_pooling_param {{ output_dim: {output_dim}'
        f" group_size: {group} spatial_scale: {scale} }}"
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("output_dim", "group", "scale"), [(2, 7, 0.0625), (3, 2, 0.5), (5, 1, 1), (1, 3, 0.3)]
)
def test_any_region_of_any_image(seed, output_dim, group, scale):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(2, output_dim * group**2, 11, 13)).astype(np.float32)
    regions = [random_regions(rng, count, 2, 13 / scale).astype(np.float32) for count in (17, 5)]
    expected = [psroi_pooling(data, rows, output_dim, group, scale) for rows in regions]
    text = layer(output_dim, group, scale)
    check_layer(text, [data, regions[0]], [expected[0]])
    check_layer(text, [data, regions[1][:, :, None, None]], [expected[1]])


def test_a_small_bin_beside_large_values_keeps_its_digits():
    data = np.full((1, 1, 40, 50), 1e4, np.float32)
    data[:, :, 30:, 40:] = 1e-3
    regions = np.array([[0, 41, 31, 45, 35]], np.float32)
    expected = psroi_pooling(data, regions, 1, 1, 1)
    assert expected.max() == np.float32(1e-3)
    check_layer(layer(1, 1), [data, regions], [expected], rtol_peak=1e-6)


def test_gradients_are_shared_by_the_cells_of_a_bin():
    data = torch.zeros(1, 1, 4, 5, requires_grad=True)
    module = module_of(resolved(f"{BOTTOMS} {layer(1, 1)}"), [])
    module(data, torch.tensor([[0.0, 1, 2, 3, 3]])).sum().backward()
    wanted = torch.zeros(1, 1, 4, 5)
    wanted[0, 0, 2:4, 1:4] = 1 / 6
    torch.testing.assert_close(data.grad, wanted)


@pytest.mark.parametrize("image", [-1, 2])
def test_an_image_outside_the_batch_is_an_error(image):
    module = module_of(resolved(f"{BOTTOMS} {layer(1, 1)}"), [])
    with pytest.raises(IndexError):
        module(torch.zeros(2, 1, 4, 5), torch.tensor([[float(image), 0, 0, 3, 2]]))


@pytest.mark.parametrize(
    ("fields", "shapes", "text"),
    [
        (layer(0, 2), ((1, 4, 3, 5), (7, 5)), "output_dim: must be greater than 0"),
        (layer(1, 0), ((1, 4, 3, 5), (7, 5)), "group_size: must be greater than 0"),
        (layer(3, 2), ((1, 4, 3, 5), (7, 5)), "output_dim 3 and group_size 2 need 12"),
        (layer(1, 2), ((1, 4, 3, 5), (7, 6)), "the regions' shape (7, 6) is not (R, 5)"),
        (
            'type: "PSROIPooling" psroi_pooling_param { output_dim: 1 group_size: 2 }',
            ((1, 4, 3, 5), (7, 5)),
            "spatial_scale: is required",
        ),
    ],
)
def test_refusals(fields, shapes, text):
    error = refusal(f"{BOTTOMS} {fields}", *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
