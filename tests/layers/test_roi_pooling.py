from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer
from refusals import refusal, resolved
from region_oracles import random_regions, roi_pooling

from caffe2torch.errors import NetError
from caffe2torch.lower.eager import module_of

BOTTOMS = 'bottom: "map" bottom: "regions" top: "t"'


def layer(height: int, width: int, scale: float = 1) -> str:
    return (
        f'type: "ROIPooling" roi_pooling_param {{ pooled_h: {height} pooled_w: {width}'
        f" spatial_scale: {scale} }}"
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("pooled", "scale"), [((7, 7), 0.0625), ((2, 5), 0.5), ((1, 3), 1)])
def test_any_region_of_any_image(seed, pooled, scale):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    regions = [random_regions(rng, count, 2, 13 / scale).astype(np.float32) for count in (17, 5)]
    expected = [roi_pooling(data, rows, pooled, scale) for rows in regions]
    check_layer(layer(*pooled, scale), [data, regions[0]], [expected[0]])
    check_layer(layer(*pooled, scale), [data, regions[1][:, :, None, None]], [expected[1]])


def test_a_bin_grows_where_float32_rounds_its_size_up():
    """The end of bin i is ceil((i + 1) * (size / bins)), not ceil((i + 1) * size / bins)."""
    rng = np.random.default_rng(2)
    data = rng.normal(size=(1, 2, 60, 50)).astype(np.float32)
    regions = np.array([[0, 2, 3, 2 + w, 3 + h] for w in range(9) for h in range(40)], np.float32)
    check_layer(layer(7, 5), [data, regions], [roi_pooling(data, regions, (7, 5), 1)])


@pytest.mark.parametrize("ratio", [0.25, 0.1])
def test_regions_are_padded_by_a_part_of_their_length(ratio):
    rng = np.random.default_rng(3)
    data = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    regions = random_regions(rng, 17, 2, 26).astype(np.float32)
    padded = regions.copy()
    pad = (regions[:, 3:] - regions[:, 1:3] + np.float32(1)) * np.float32(ratio)
    padded[:, 1:3] -= pad
    padded[:, 3:] += pad
    text = layer(3, 4, 0.5).replace("pooled_h", f"pad_ratio: {ratio} pooled_h")
    check_layer(text, [data, regions], [roi_pooling(data, padded, (3, 4), 0.5)])


def test_gradients_go_to_the_maxima():
    data = torch.arange(20.0).reshape(1, 1, 4, 5).requires_grad_()
    module = module_of(resolved(f"{BOTTOMS} {layer(1, 2)}"), [])
    module(data, torch.tensor([[0.0, 0, 0, 3, 2]])).sum().backward()
    wanted = torch.zeros(1, 1, 4, 5)
    wanted[0, 0, 2, [1, 3]] = 1
    torch.testing.assert_close(data.grad, wanted)


@pytest.mark.parametrize("image", [-1, 2])
def test_an_image_outside_the_batch_is_an_error(image):
    module = module_of(resolved(f"{BOTTOMS} {layer(1, 2)}"), [])
    with pytest.raises(IndexError):
        module(torch.zeros(2, 1, 4, 5), torch.tensor([[float(image), 0, 0, 3, 2]]))


@pytest.mark.parametrize(
    ("fields", "shapes", "text"),
    [
        (layer(0, 2), ((1, 2, 3, 5), (7, 5)), "pooled_h: must be greater than 0"),
        (layer(2, 0), ((1, 2, 3, 5), (7, 5)), "pooled_w: must be greater than 0"),
        (layer(2, 2), ((1, 2, 3), (7, 5)), "is not (N, C, H, W)"),
        (layer(2, 2), ((1, 2, 3, 5), (7, 4)), "the regions' shape (7, 4) is not (R, 5)"),
    ],
)
def test_refusals(fields, shapes, text):
    error = refusal(f"{BOTTOMS} {fields}", *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
