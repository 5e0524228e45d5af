from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from refusals import refusal, resolved

from caffe2torch.errors import NetError


def oracle(x: np.ndarray, scale: np.ndarray, across: bool, eps: float) -> np.ndarray:
    axes = tuple(range(1, x.ndim)) if across else (1,)
    scale = scale.reshape(-1, *[1] * (x.ndim - 2)) if scale.ndim else scale
    return scale * x / np.sqrt((x**2).sum(axes, keepdims=True) + eps)


@pytest.mark.parametrize("rest", [(), (5,), (5, 7)])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("eps", [1e-10, 0.5])
def test_norm(rest: tuple[int, ...], across: bool, shared: bool, eps: float) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal((2, 3, *rest)), rng.standard_normal((4, 3, *rest))
    scale = rng.uniform(1, 20, () if shared else 3)
    flags = f"across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()}"
    check_layer(
        f'type: "Normalize" norm_param {{ {flags} eps: {eps} }}',
        [small],
        [oracle(small, scale, across, eps)],
        blobs=[scale],
        batch_inputs=[large],
        batch_expected=[oracle(large, scale, across, eps)],
    )


def test_all_zero_image_stays_zero() -> None:
    x = np.zeros((2, 3, 5, 7))
    check_layer('type: "Normalize"', [x], [x], blobs=[np.array(20.0)])


@pytest.mark.parametrize(("param", "value"), [("", 1), ("scale_filler { value: 20 }", 20)])
def test_filler(param: str, value: float) -> None:
    layer = resolved(f'type: "Normalize" bottom: "x" top: "y" norm_param {{ {param} }}')
    (spec,) = layer.blob_specs([(2, 3, 5, 7)])
    assert (spec.shape, spec.filler.value, spec.given) == ((), value, True)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 5, 7, 2)])
def test_refuses_other_axes(shape: tuple[int, ...]) -> None:
    error = refusal('type: "Normalize" bottom: "x" top: "y"', shape)
    assert isinstance(error, NetError)
    assert f"shape {shape} must have two to four axes" in str(error)


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 7)])
@pytest.mark.parametrize("tops", [1, 2])
def test_norms_of_channels_without_a_scale(kind: str, shape: tuple[int, ...], tops: int) -> None:
    x = np.random.default_rng(3).normal(size=shape)
    four = x.reshape((*shape, 1, 1)[:4])
    if kind == "L2":
        norm = np.sqrt((four**2).sum(axis=1, keepdims=True) + 1e-6)
    else:
        norm = np.abs(four).sum(axis=1, keepdims=True) + 1e-6
    text = f'type: "Normalize" normalize_param {{ normalize_type: "{kind}" }}'
    check_layer(text, [x], [four / norm, norm][:tops])


def test_refusals_of_norms_of_channels() -> None:
    text = 'type: "Normalize" normalize_param { normalize_type: "L3" }'
    assert "'L3' is neither 'L1' nor 'L2'" in str(layer_error(text, [(2, 3)]))
    text = 'type: "Normalize" normalize_param { bp_norm: true } norm_param { eps: 1 }'
    assert "norm_param is of another Normalize" in str(layer_error(text, [(2, 3)]))
    assert "SSD's layer has one top" in str(layer_error('type: "Normalize"', [(2, 3)], tops=2))
