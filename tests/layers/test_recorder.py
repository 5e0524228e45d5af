"""Recorded torch forms: the text means what the operations on tensors mean."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from harness import build

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.graph import Graph, Shape
from caffe2torch.layers import Layer, TorchBuilder, register_layer
from caffe2torch.lower.expression import Expression, text_of
from caffe2torch.lower.python_format import wrap
from caffe2torch.lower.to_source import to_source
from caffe2torch.lower.to_torch import to_torch

FORMS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: (x + 1) * 2, "(x + 1) * 2"),
    (lambda x: x + 1 * 2 - (x - 3), "x + 2 - (x - 3)"),
    (lambda x: x + -0.5, "x - 0.5"),
    (lambda x: 1 / (2 - x), "1 / (2 - x)"),
    (lambda x: -x * x, "-x * x"),
    (lambda x: (-x) ** 2, "(-x) ** 2"),
    (lambda x: x**-2, "x**-2"),
    (lambda x: (x > 0.1).to(x.dtype), "(x > 0.1).to(x.dtype)"),
    (lambda x: (x > 0) & ~(x == 2), "(x > 0) & ~(x == 2)"),
    (lambda x: x[..., None, 1:], "x[..., None, 1:]"),
    (lambda x: x[:, : x.shape[1] - 1 : 2], "x[:, : x.shape[1] - 1 : 2]"),
    (lambda x: (x @ x.mT).sum(dim=(0,)), "(x @ x.mT).sum(dim=(0,))"),
    (lambda x: x.reshape((2,) + x.shape[1:]), "x.reshape((2,) + x.shape[1:])"),  # noqa: RUF005
]


@pytest.mark.parametrize(("form", "text"), FORMS, ids=[text for _, text in FORMS])
def test_the_text_computes_what_the_form_computes(form: Callable[[Any], Any], text: str) -> None:
    assert text_of(form(Expression("x"))) == text
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(eval(text, {"x": x}), form(x))


@pytest.mark.parametrize("misuse", [bool, len, list])
def test_an_expression_has_no_value(misuse: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"x\.shape"):
        misuse(Expression("x").shape)


def halves(x: Any, *, count: int) -> Any:
    """``x`` halved ``count`` times."""
    for _ in range(count):
        x = torch.mul(x, 0.5)
    return x


def untaken(x: Any) -> Any:
    return halves(x, count=1)


@register_layer()
@dataclass(frozen=True)
class RecorderHalves(Layer):
    """A quarter of the bottom."""

    type = "RecorderHalves"

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.use(halves)(inputs[0], count=2)


@register_layer()
@dataclass(frozen=True)
class RecorderForeign(Layer):
    """Uses a function that needs another."""

    type = "RecorderForeign"

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.use(untaken)(inputs[0])


@register_layer()
@dataclass(frozen=True)
class RecorderBranch(Layer):
    """Decides by a value."""

    type = "RecorderBranch"

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0] if inputs[0].sum() > 0 else -inputs[0]


@register_layer()
class RecorderModuleAndBranch(RecorderBranch):
    """Decides by the value of what its module makes."""

    type = "RecorderModuleAndBranch"

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.Identity()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return super().to_torch(t, [t.module(inputs[0])], bottoms)


@register_layer()
class RecorderOfTensors(Layer):
    """Gives the outcome of its module to torch itself, which takes tensors only."""

    type = "RecorderOfTensors"

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.Identity()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return torch.abs(t.module(inputs[0]))


def net(type_: str) -> Graph:
    return build(f'type: "{type_}"', [(2, 3)], 1)


def test_a_function_of_a_plugin_goes_into_the_file() -> None:
    graph, x = net("RecorderHalves"), torch.ones(2, 3)
    scope: dict[str, Any] = {"__file__": "net.py", "__name__": "emitted"}
    text = to_source(graph)
    exec(compile(text, "net.py", "exec"), scope)
    assert "t0 = halves(b0, count=2)" in text
    assert torch.equal(scope["N"]()(x), x / 4)
    assert torch.equal(to_torch(graph)(x), x / 4)


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("RecorderForeign", "untaken uses 'halves'"),
        ("RecorderBranch", "decides by the value of"),
        ("RecorderModuleAndBranch", "decides by the value of"),
        ("RecorderOfTensors", "must be Tensor, not Call"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(type_: str, reason: str) -> None:
    graph = net(type_)
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        to_source(graph)
    assert (caught.value.layer, caught.value.type) == ("l", type_)
    assert torch.equal(to_torch(graph)(torch.ones(2, 3)).sign(), torch.ones(2, 3))


@pytest.mark.parametrize(
    "value",
    ["{x} / (f({x}, 1) + 1e-08)", "({x} - {x}) - ({x} - c)", "{x} - {x} - c", "({x} + {x}) / {x}"],
)
def test_a_long_line_keeps_the_brackets_of_its_operands(value):
    statement = f"y = {value}".format(x="long_" * 10 + "x")
    wrapped = wrap(statement, 0)
    assert "\n" in wrapped
    assert ast.dump(ast.parse(wrapped)) == ast.dump(ast.parse(statement))
