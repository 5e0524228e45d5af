from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError

EPS = 1e-5


def per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (x.ndim - 2))


def oracle(x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float = EPS) -> np.ndarray:
    return (x - per_channel(mean, x)) / np.sqrt(per_channel(var, x) + eps)


def batch_oracle(x: np.ndarray, eps: float = EPS) -> np.ndarray:
    axes = tuple(a for a in range(x.ndim) if a != 1)
    return oracle(x, x.mean(axes), x.var(axes), eps)


@pytest.mark.parametrize("rest", [(), (7,), (5, 7), (2, 5, 7)])
@pytest.mark.parametrize("factor", [0.0, 1.0, 2.5, 999.982])
def test_running_statistics(rest: tuple[int, ...], factor: float) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal((2, 3, *rest)), rng.standard_normal((5, 3, *rest))
    mean, var = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    inverse = 1 / factor if factor else 0
    check_layer(
        'type: "BatchNorm"',
        [small],
        [oracle(small, mean * inverse, var * inverse)],
        blobs=[mean, var, np.array([factor])],
        batch_inputs=[large],
        batch_expected=[oracle(large, mean * inverse, var * inverse)],
    )


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_explicit_global_statistics_in_both_phases(phase: str) -> None:
    rng = np.random.default_rng(2)
    x, mean, var = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal(3), rng.random(3)
    check_layer(
        'type: "BatchNorm" batch_norm_param { use_global_stats: true eps: 0.01 }',
        [x],
        [oracle(x, mean / 4, var / 4, 0.01)],
        blobs=[mean, var, np.array([4.0])],
        phase=phase,
    )


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (2, 3, 5, 7), (2, 3, 2, 5, 7), (1, 3)])
@pytest.mark.parametrize(("param", "phase"), [("", "TRAIN"), ("use_global_stats: false", "TEST")])
def test_batch_statistics(shape: tuple[int, ...], param: str, phase: str) -> None:
    x = np.random.default_rng(3).standard_normal(shape)
    check_layer(
        f'type: "BatchNorm" batch_norm_param {{ {param} }}',
        [x],
        [batch_oracle(x)],
        blobs=[np.ones(3), np.ones(3), np.ones(1)],
        phase=phase,
    )


def test_phase_of_the_layer_decides() -> None:
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 7))
    check_layer('type: "BatchNorm" phase: TRAIN', [x], [batch_oracle(x)])


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4, 3), (1, 3)])
def test_training_moves_the_statistics_as_caffe_does(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    layer = resolved(
        'type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { moving_average_fraction: 0.9 }'
    )
    blobs = [rng.standard_normal(3), rng.uniform(1, 2, 3), np.array([2.5])]
    params = layer.import_blobs([b.astype(np.float32) for b in blobs], [shape])
    tensors = {name: torch.tensor(array) for name, array in params.items()}
    for _ in range(3):
        x = rng.standard_normal(shape)
        y = run_layer(layer, [torch.tensor(x, dtype=torch.float32)], tensors, training=True)
        np.testing.assert_allclose(y.numpy(), batch_oracle(x), atol=2e-5)
        axes = tuple(a for a in range(x.ndim) if a != 1)
        m = x.size / 3
        blobs[2] = blobs[2] * 0.9 + 1
        blobs[0] = blobs[0] * 0.9 + x.mean(axes)
        blobs[1] = blobs[1] * 0.9 + x.var(axes) * (m / (m - 1) if m > 1 else 1)
    np.testing.assert_allclose(tensors["running_mean"], blobs[0] / blobs[2], atol=1e-6)
    np.testing.assert_allclose(tensors["running_var"], blobs[1] / blobs[2], atol=1e-6)
    np.testing.assert_allclose(tensors["scale_factor"], blobs[2], atol=1e-6)


def test_evaluation_leaves_the_statistics_alone() -> None:
    layer = resolved('type: "BatchNorm" bottom: "x" top: "y"', phase="TRAIN")
    tensors = {name: torch.ones(3) for name in ("running_mean", "running_var", "scale_factor")}
    run_layer(layer, [torch.randn(2, 3, 5)], tensors, training=False)
    assert all(torch.equal(tensor, torch.ones(3)) for tensor in tensors.values())


@pytest.mark.parametrize("factor", [0, 1, 3, 1.9, 12.5, 999.982])
def test_export_inverts_import(factor: float) -> None:
    layer, shapes = resolved('type: "BatchNorm" bottom: "x" top: "y"'), [(2, 4001, 5)]
    rng = np.random.default_rng(6)
    mean, variance = rng.standard_normal((2, 4001)).astype(np.float32)
    blobs = [mean, variance**2, np.float32([factor])]
    params = layer.import_blobs(blobs, shapes)
    exported = layer.export_blobs(params, shapes)
    assert all(blob.dtype == np.float32 for blob in exported)
    again = layer.import_blobs(exported, shapes)
    for name, array in params.items():
        np.testing.assert_array_equal(again[name], array)
    if factor:
        np.testing.assert_allclose(exported[0], mean, rtol=3e-7)


def test_statistics_are_missing_only_where_they_are_used() -> None:
    for param, given in (("", False), ("use_global_stats: false", True)):
        layer = resolved(f'type: "BatchNorm" bottom: "x" top: "y" batch_norm_param {{ {param} }}')
        assert [spec.given for spec in layer.blob_specs([(2, 3)])] == [given] * 3


def test_refuses_one_axis_and_learning_rates() -> None:
    error = refusal('type: "BatchNorm" bottom: "x" top: "y"', (7,))
    assert isinstance(error, NetError)
    assert "shape (7,) has fewer than two axes" in str(error)
    with pytest.raises(NetError, match=r"param.lr_mult: running statistics cannot be learned"):
        resolved('type: "BatchNorm" bottom: "x" top: "y" param { lr_mult: 1 }')


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("param", ["scale_bias: true", "scale_filler {}", "bias_filler {}"])
def test_nvidia_fork_scales_and_shifts(shape: tuple[int, ...], param: str) -> None:
    rng = np.random.default_rng(7)
    x, mean, var, scale, bias = (rng.uniform(0.5, 2, s) for s in (shape, 3, 3, 3, 3))
    check_layer(
        f'type: "BatchNorm" batch_norm_param {{ eps: 0.01 {param} }} param {{ lr_mult: 1 }}',
        [x],
        [oracle(x, mean, var, 0.01) * per_channel(scale, x) + per_channel(bias, x)],
        blobs=[mean, var, np.ones(1), scale, bias],
    )


def test_nvidia_fork_takes_the_phase_for_the_statistics_and_eps_of_1e_5_at_least() -> None:
    rng = np.random.default_rng(8)
    x, scale, bias = rng.standard_normal((2, 3, 5, 7)), rng.random(3), rng.random(3)
    check_layer(
        'type: "BatchNorm" batch_norm_param { eps: 1e-7 scale_bias: true use_global_stats: true }',
        [x * 1e-3],
        [batch_oracle(x * 1e-3) * per_channel(scale, x) + per_channel(bias, x)],
        blobs=[np.ones(3), np.ones(3), np.ones(1), scale, bias],
        phase="TRAIN",
    )


def test_nvidia_fork_without_weights_starts_at_scale_one_and_bias_zero() -> None:
    layer = resolved('type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { scale_bias: true }')
    specs = {spec.name: spec.filler.value for spec in layer.blob_specs([(2, 3)])}
    assert list(specs) == ["running_mean", "running_var", "correction", "weight", "bias"]
    assert (specs["weight"], specs["bias"], specs["correction"]) == (1, 0, 1)


def test_nvidia_fork_export_inverts_import() -> None:
    layer = resolved('type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { scale_bias: true }')
    rng = np.random.default_rng(9)
    blobs = [rng.random(n).astype(np.float32) for n in (3, 3, 1, 3, 3)]
    exported = layer.export_blobs(layer.import_blobs(blobs, [(2, 3)]), [(2, 3)])
    for got, given in zip(exported, [*blobs[:2], np.ones(1), *blobs[3:]], strict=True):
        np.testing.assert_array_equal(got, given)
