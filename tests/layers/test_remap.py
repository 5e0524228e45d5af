from __future__ import annotations

import numpy as np
import torch
from harness import check_layer, layer_error
from warp_oracles import places_around, sampled

from caffe2torch.layers._runtime.flow import sample_pixels


def test_reads_the_image_between_its_pixels() -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    places = places_around((2, 4, 6), (5, 7))
    check_layer('type: "Remap"', [image, places], [sampled(image, places)])


def test_gradients_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(2)
    image = torch.from_numpy(rng.standard_normal((1, 2, 4, 5))).requires_grad_()
    places = torch.from_numpy(rng.uniform(-0.9, 4.2, (1, 2, 3, 2))).requires_grad_()
    assert torch.autograd.gradcheck(sample_pixels, (image, places))


def test_other_shapes_are_refused() -> None:
    assert "1 items of 2 channels" in str(
        layer_error('type: "Remap"', [(1, 3, 5, 7), (1, 3, 5, 7)])
    )
    assert "axes" in str(layer_error('type: "Remap"', [(1, 3, 5), (1, 2, 5, 7)]))
