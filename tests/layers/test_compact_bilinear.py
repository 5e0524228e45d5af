from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.layers._runtime.rand import first_rand

FIELDS = 'type: "CompactBilinear" compact_bilinear_param { num_output: 12 }'


def pooled(x: Any, z: Any, size: int) -> Any:
    """By the steps of the fork: two count sketches, multiplied as Fourier transforms."""
    numbers = iter(first_rand(2 * (x.shape[1] + z.shape[1])))
    sketches = []
    for data in (x, z):
        places = [next(numbers) % size for _ in range(data.shape[1])]
        signs = [2 * (next(numbers) % 2) - 1 for _ in range(data.shape[1])]
        sketch = np.zeros((len(data), size, *data.shape[2:]))
        for channel, (place, sign) in enumerate(zip(places, signs, strict=True)):
            sketch[:, place] += sign * data[:, channel]
        sketches.append(np.fft.fft(sketch, axis=1))
    y = size * np.fft.ifft(sketches[0] * sketches[1], axis=1).real
    return y.sum((2, 3), keepdims=True)


def test_products_are_gathered_as_in_the_fork() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((2, 7, 3, 4))
    check_layer(FIELDS, [x, z], [pooled(x, z, 12)])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the C library of Linux")
def test_the_numbers_are_those_of_the_c_library() -> None:
    library = ctypes.CDLL("libc.so.6")
    library.srand(1)
    assert first_rand(2000) == [library.rand() for _ in range(2000)]


def test_refuses() -> None:
    shapes = [(2, 5, 3, 4), (2, 7, 3, 5)]
    assert "differ elsewhere than in channels" in str(layer_error(FIELDS, shapes))
    text = FIELDS.replace("12", "12 sum_pool: false")
    assert "false has no conversion" in str(layer_error(text, shapes))
    assert "must be given" in str(layer_error('type: "CompactBilinear"', shapes))
