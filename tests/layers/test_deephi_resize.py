from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.errors import UnsupportedLayerError


def layer(param: str) -> str:
    return f'type: "DeephiResize" deephi_resize_param {{ {param} }}'


def oracle(x, size, bilinear):
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        at = [p * n / new for p, n, new in zip((i, j), x.shape[2:], size, strict=True)]
        if not bilinear:
            y[:, :, i, j] = x[:, :, int(at[0] + 1e-9), int(at[1] + 1e-9)]
            continue
        at = [p + n / new / 2 - 0.5 for p, n, new in zip(at, x.shape[2:], size, strict=True)]
        for k in range(4):
            taps = [int(np.floor(p)) + (k >> axis & 1) for axis, p in enumerate(at)]
            weight = np.prod([1 - abs(p - tap) for p, tap in zip(at, taps, strict=True)])
            row, column = (min(max(t, 0), n - 1) for t, n in zip(taps, x.shape[2:], strict=True))
            y[:, :, i, j] += weight * x[:, :, row, column]
    return y


@pytest.mark.parametrize("kind", ["", "resize_type: NEAREST", "resize_type: BILINEAR"])
@pytest.mark.parametrize(
    ("param", "size"),
    [
        ("scale_h: 2 scale_w: 3", (10, 21)),
        ("new_height: 11 new_width: 4", (11, 4)),
        ("scale_h: 1.5 scale_w: 0.5", (7, 3)),
        ("", (5, 7)),
    ],
)
def test_resizes_as_opencv(kind, param, size):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    y = oracle(x.astype(np.float64), size, "BILINEAR" in kind)
    check_layer(layer(f"{kind} {param}"), [x], [y], rtol_peak=2e-5 if "BIL" in kind else 0)


@pytest.mark.parametrize("kind", ["NEAREST", "BILINEAR"])
@pytest.mark.parametrize("size", [(11, 4), (10, 14), (15, 21), (13, 17)])
def test_the_oracle_is_opencv(kind, size):
    cv2 = pytest.importorskip("cv2")
    x = np.random.default_rng(1).standard_normal((5, 7)).astype(np.float32)
    mode = {"NEAREST": cv2.INTER_NEAREST, "BILINEAR": cv2.INTER_LINEAR}[kind]
    y = cv2.resize(x, size[::-1], interpolation=mode)
    mine = oracle(x[None, None].astype(np.float64), size, kind == "BILINEAR")[0, 0]
    np.testing.assert_allclose(mine, y, atol=1e-6)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("scale_h: 2", "give both scale_h and scale_w, or none"),
        ("new_width: 2", "give both new_height and new_width, or none"),
        ("scale_h: 0.1 scale_w: 1", "the output size (0, 7) is not positive"),
    ],
)
def test_what_the_fork_refuses(param, message):
    assert message in str(layer_error(layer(param), [(2, 3, 5, 7)]))


def test_eight_bits_are_refused():
    error = layer_error(layer("use_dpu: true"), [(2, 3, 5, 7)])
    assert isinstance(error, UnsupportedLayerError)
    assert "it computes in 8 bits" in str(error)
