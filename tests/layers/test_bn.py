from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError, UnsupportedLayerError


def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    weight, bias = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (weight, bias))
    return x * weight + bias


def normalised(x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float) -> np.ndarray:
    return affine(x, 1 / np.sqrt(var + eps), -mean / np.sqrt(var + eps))


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes = tuple(a for a in range(x.ndim) if a != 1)
    return x.mean(axes), x.var(axes)


def four_axes(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape + (1,) * (4 - x.ndim))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 7)])
def test_scale_and_shift(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)
    column = [v.reshape(1, 3, 1, 1) for v in (weight, bias)]
    check_layer(
        'type: "BN" bn_param { bn_mode: INFERENCE }',
        [x],
        [four_axes(affine(x, weight, bias))],
        blobs=column,
    )


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 5), (2, 3, 5, 7)])
@pytest.mark.parametrize("tops", [1, 2, 3])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_learn(shape: tuple[int, ...], tops: int, phase: str) -> None:
    rng = np.random.default_rng(2)
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)
    mean, var = statistics(x)
    y = four_axes(affine(normalised(x, mean, var, 1e-9), weight, bias))
    check_layer(
        'type: "BN" bn_param { scale_filler { value: 1 } shift_filler { value: 0.001 } }',
        [x],
        [y, mean.reshape(1, 3, 1, 1), var.reshape(1, 3, 1, 1)][:tops],
        blobs=[v.reshape(1, 3, 1, 1) for v in (weight, bias)],
        phase=phase,
    )


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 5), (2, 3, 5, 7), (2, 3, 2, 4, 5)])
@pytest.mark.parametrize(
    ("param", "phase", "running"),
    [
        ("momentum: 0.9", "TEST", True),
        ("slope_filler { } moving_average: true", "TEST", True),
        ("frozen: true engine: CAFFE", "TRAIN", True),
        ("eps: 0.01", "TRAIN", False),
    ],
)
def test_running_statistics(shape: tuple[int, ...], param: str, phase: str, running: bool) -> None:
    rng = np.random.default_rng(3)
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)
    blobs = [weight, bias, rng.standard_normal(3), rng.uniform(0.5, 2, 3)]
    mean, var = (blobs[2], blobs[3]) if running else statistics(x)
    eps = 0.01 if "eps" in param else 1e-5
    check_layer(
        f'type: "BN" bn_param {{ {param} }}',
        [x],
        [affine(normalised(x, mean, var, eps), weight, bias)],
        blobs=[v.reshape(1, 3) for v in blobs],
        phase=phase,
    )


def test_blobs_with_four_axes() -> None:
    rng = np.random.default_rng(4)
    x, blobs = rng.standard_normal((2, 3, 5, 7)), rng.uniform(0.5, 2, (4, 3))
    check_layer(
        'type: "BN" bn_param { frozen: true }',
        [x],
        [affine(normalised(x, blobs[2], blobs[3], 1e-5), blobs[0], blobs[1])],
        blobs=list(blobs.reshape(4, 1, 3, 1, 1)),
    )


def test_training_moves_the_running_statistics() -> None:
    layer = resolved('type: "BN" bottom: "x" top: "y" bn_param { momentum: 0.75 }')
    rng = np.random.default_rng(5)
    x, mean, var = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal(3), rng.random(3)
    tensors = {
        "weight": torch.ones(3),
        "bias": torch.zeros(3),
        "running_mean": torch.tensor(mean, dtype=torch.float32),
        "running_var": torch.tensor(var, dtype=torch.float32),
    }
    run_layer(layer, [torch.tensor(x, dtype=torch.float32)], tensors, training=True)
    batch_mean, batch_var = statistics(x)
    for name, old, batch in (("mean", mean, batch_mean), ("var", var, batch_var)):
        np.testing.assert_allclose(tensors[f"running_{name}"], 0.75 * old + 0.25 * batch, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("param { } param { } param { } param { }", 4),
        ("blobs { } blobs { }", 2),
        ("blobs { } blobs { } blobs { } blobs { }", 4),
    ],
)
def test_form_by_the_number_of_blobs(fields: str, names: int) -> None:
    layer = resolved(f'type: "BN" bottom: "x" top: "y" {fields}')
    assert len(layer.blob_specs([(2, 3, 5, 7)])) == names


def test_refuses_what_cannot_be_told() -> None:
    with pytest.raises(UnsupportedLayerError, match="nothing tells which fork's BN it is"):
        resolved('type: "BN" bottom: "x" top: "y"')
    with pytest.raises(UnsupportedLayerError, match=r"bn_mode belongs to .* frozen to the form"):
        resolved('type: "BN" bottom: "x" top: "y" bn_param { bn_mode: LEARN frozen: true }')
    with pytest.raises(UnsupportedLayerError, match="without it nothing sets the statistics"):
        resolved('type: "BN" bottom: "x" top: "y" bn_param { moving_average: false }')


def test_refuses_tops_and_axes() -> None:
    with pytest.raises(NetError, match="only bn_mode LEARN has more than one top"):
        resolved('type: "BN" bottom: "x" top: "y" top: "m" bn_param { bn_mode: INFERENCE }')
    error = refusal('type: "BN" bottom: "x" top: "y" bn_param { bn_mode: LEARN }', (7,))
    assert isinstance(error, NetError)
    assert "must have two to four axes" in str(error)
