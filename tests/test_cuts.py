"""What a device makes of cuts has the bits of numpy, one image after the other."""

import itertools

import numpy as np
import pytest
import torch

from caffe2torch.cuts import Cuts, CutsToInput

CPU = torch.device("cpu")
HEIGHT, WIDTH = 5, 7


def expected(pixels, places, mean, scale, std, rgb):
    """Of one image at a time, the mirror image taken of all that went before."""
    made = []
    for image, (top, left, mirrored) in zip(pixels, places, strict=True):
        numbers = image[::-1] if rgb else image
        numbers = numbers.astype(np.float32)
        if mean is not None:
            at = np.s_[:, top : top + HEIGHT, left : left + WIDTH]
            numbers = numbers - (mean if mean.shape[1:] == (1, 1) else mean[at])
        numbers = numbers * np.float32(scale)
        if std:
            numbers = numbers / np.array(std, np.float32)[:, None, None]
        made.append(numbers[:, :, :: -1 if mirrored else 1])
    return np.stack(made)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("mean", ["none", "one", "values", "image"])
def test_the_bits_are_those_of_numpy(channels, dtype, mean):
    rng = np.random.default_rng(5)
    shapes = {"one": (1, 1, 1), "values": (channels, 1, 1), "image": (channels, 9, 12)}
    subtracted = None if mean == "none" else rng.random(shapes[mean], np.float32) * 200
    pixels = (rng.random((6, channels, HEIGHT, WIDTH)) * 256).astype(dtype)
    wrong = []
    for mirrors, rgb, last, scaled, interleaved, (name, of) in itertools.product(
        ([0] * 6, [1, 0, 0, 1, 1, 0]),
        (False, True),
        (False, True),
        ((1.0, ()), (0.017, (58.4, 57.1, 57.4)[:channels])),
        (False, True),
        {"one by one": CutsToInput.one_by_one, "at once": CutsToInput.at_once}.items(),
    ):
        places = np.stack([rng.integers(0, 5, 6), rng.integers(0, 6, 6), mirrors], 1)
        given = torch.from_numpy(pixels.copy())
        if interleaved:  # In memory as OpenCV's images.
            given = given.contiguous(memory_format=torch.channels_last)
        to_input = CutsToInput(CPU, subtracted, *scaled, rgb=rgb, channels_last=last)
        made = of(to_input, Cuts(given, torch.from_numpy(places)))
        order = torch.channels_last if last else torch.contiguous_format
        same = np.array_equal(made, expected(pixels, places, subtracted, *scaled, rgb))
        kept = np.array_equal(given, pixels) and made.dtype == torch.float32
        if not (same and kept and made.is_contiguous(memory_format=order)):
            wrong.append((mirrors, rgb, last, scaled, interleaved, name))
    assert not wrong


@pytest.mark.parametrize("of", [CutsToInput.one_by_one, CutsToInput.at_once])
def test_a_batch_may_have_no_cut(of):
    none = Cuts(torch.empty(0, 3, 5, 7, dtype=torch.uint8), torch.empty(0, 3, dtype=torch.int64))
    mean = np.ones((3, 9, 12), np.float32)
    assert of(CutsToInput(CPU, mean), none).shape == (0, 3, 5, 7)
