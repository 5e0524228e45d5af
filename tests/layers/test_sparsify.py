from __future__ import annotations

import numpy as np
import torch
from harness import check_layer, layer_error

import caffe2torch
from caffe2torch.lower.to_torch import to_torch


def test_it_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3))
    check_layer('type: "Sparsify" sparsify_param { coef: 2 }', [x], [x])


def test_its_gradient_has_the_penaltys() -> None:
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 } } }
    layer { name: "s" type: "Sparsify" bottom: "x" top: "y" sparsify_param { coef: 0.25 } }"""
    module = to_torch(caffe2torch.read(prototxt=text.encode()))
    x = torch.tensor([0.0, 3, -2, -0.0], requires_grad=True)
    module(x).backward(torch.tensor([1.0, 1, 1, 2]))
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1.25, 0.75, 2]


def test_a_threshold_is_refused() -> None:
    """The fork's versions do not agree on it."""
    error = layer_error('type: "Sparsify" sparsify_param { thre: 0.5 }', [(2, 3)])
    assert "sparsify_param.thre: of the fork's versions" in str(error)


def test_negative_numbers_are_refused() -> None:
    for name in ("thre", "coef"):
        error = layer_error(f'type: "Sparsify" sparsify_param {{ {name}: -1 }}', [(2, 3)])
        assert f"sparsify_param.{name}: must not be negative" in str(error)
