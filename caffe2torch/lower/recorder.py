"""The TorchBuilder that writes: what a layer computes, as expressions for the emitted file."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from caffe2torch.graph import Node, Shape
from caffe2torch.layers import Layer
from caffe2torch.lower.expression import (
    Call,
    Constructor,
    Expression,
    Function,
    Namespace,
    NotRecordableError,
    exact,
    text_of,
)
from caffe2torch.lower.runtime_code import signature_of
from caffe2torch.lower.source_modules import SourceModules

FUNCTIONS = {
    "nn.AdaptiveAvgPool2d": "F.adaptive_avg_pool2d",
    "nn.AdaptiveMaxPool2d": "F.adaptive_max_pool2d",
    "nn.AvgPool2d": "F.avg_pool2d",
    "nn.ELU": "F.elu",
    "nn.LeakyReLU": "F.leaky_relu",
    "nn.LocalResponseNorm": "F.local_response_norm",
    "nn.MaxPool2d": "F.max_pool2d",
    "nn.ReLU": "F.relu",
    "nn.ReLU6": "F.relu6",
    "nn.Sigmoid": "torch.sigmoid",
    "nn.Softmax": "F.softmax",
    "nn.Softplus": "F.softplus",
    "nn.Tanh": "torch.tanh",
}
"""Modules of torch without arrays and state, and the function that takes the same arguments."""

WITH_AXES = {"padding": "0", "dilation": "1", "groups": "1", "bias": "True", "ceil_mode": "False"}
"""Defaults that torch's modules of one to three axes have, each as far as it has the argument."""

SOURCE_NAMES = frozenset({"Any", "Callable", "F", "Sequence", "Tensor", "math", "nn", "torch"})
"""What a function that emitted source takes along may use of its module, beside built-ins."""


def _class_of_nn(name: str) -> Expression:
    """``nn.NAME``."""
    if re.fullmatch(r"\w+[123]d", name):
        stride = {"stride": "1"} if name.startswith("Conv") else {}
        return Constructor(f"nn.{name}", WITH_AXES | stride)
    return Function(f"nn.{name}", {"bias": "True"} if name == "Linear" else {})


class Recorder:
    """The TorchBuilder of one node of a graph. See there for the members."""

    torch: Any = Expression("torch")
    nn: Any = Namespace(_class_of_nn)
    F: Any = Expression("F")
    math: Any = Expression("math")
    training = Expression("self.training")

    def __init__(
        self, node: Node, modules: SourceModules, used: set[str], own: dict[str, str]
    ) -> None:
        self._node, self._modules, self._used, self._own = node, modules, used, own
        self._module: Expression | None = None
        self._constructor: Call | None = None
        self.runtime: Any = Namespace(self._definition)

    @property
    def module(self) -> Any:
        if self._constructor is not None:
            return self._call_function
        return self._home()

    @property
    def params(self) -> Any:
        return self._home()

    def exact(self, value: Any) -> Expression:
        return exact(value)

    def check(self, layer: Layer, inputs: Sequence[Any]) -> None:
        """Nothing: the shapes of a run are not known here."""

    def use(self, function: Any) -> Expression:
        name, text = function.__name__, _source_of(function)
        if self._own.setdefault(name, text) != text:
            raise NotRecordableError(f"two functions have the name {name!r}")
        return Expression(name)

    def tops(self, inputs: Sequence[str], bottoms: Sequence[Shape]) -> str | list[str]:
        """The layer's expressions: one for each top, or one of a tuple of all.

        Raises UnsupportedLayerError where the torch form cannot be written.
        """
        layer = self._node.layer
        try:
            made = layer.torch_module(self, bottoms)
            if isinstance(made, Call) and made.called in FUNCTIONS and not self._node.params:
                self._constructor = made
            elif made is not None:
                self._module = Expression(self._modules.add(self._node, text_of(made)))
            elif type(layer).to_torch is Layer.to_torch:
                raise NotRecordableError("it has none")
            result = layer.to_torch(self, [Expression(text) for text in inputs], bottoms)
        except TypeError as error:
            raise layer.unsupported(
                f"its torch form cannot be written as source ({error}); convert to .pt instead"
            ) from error
        if self._node.params:
            self._home()
        return text_of(result) if isinstance(result, Expression) else list(map(text_of, result))

    def _call_function(self, *inputs: Expression) -> Expression:
        assert self._constructor is not None
        return self._constructor.applied_to(FUNCTIONS[self._constructor.called], inputs)

    def _home(self) -> Expression:
        """The node's module; without one of its own, one that only holds its arrays."""
        if self._module is None:
            shapes = self._modules.array_shapes(self._node)
            constructor = self.runtime.Arrays(**shapes)
            self._module = Expression(self._modules.add(self._node, text_of(constructor)))
        return self._module

    def _definition(self, name: str) -> Expression:
        self._used.add(name)
        return Function(name, *signature_of(name))


class _Probe(Recorder):
    """Shows what a torch form does with the module."""

    def __init__(self) -> None:
        self.runtime = Expression("t")

    @property
    def module(self) -> Expression:
        return Expression("module")

    @property
    def params(self) -> Expression:
        return Expression("params")

    def use(self, function: Any) -> Expression:
        return Expression(function.__name__)


def is_module_alone(layer: Layer, bottoms: Sequence[Shape]) -> bool:
    """Whether the torch form of a layer that has a module is a plain call of it."""
    if type(layer).to_torch is Layer.to_torch:
        return True
    inputs = [Expression(f"x{index}") for index in range(len(bottoms))]
    try:
        result = layer.to_torch(_Probe(), inputs, bottoms)
    except TypeError:  # What cannot be recorded is no plain call, and runs on tensors all the same.
        return False
    return isinstance(result, Expression) and text_of(result) == text_of(
        Expression("module")(*inputs)
    )


def _source_of(function: FunctionType) -> str:
    """The text of a plugin's function, which may use nothing that the emitted file lacks."""
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    outer = function.__globals__.keys() - SOURCE_NAMES | set(function.__code__.co_freevars)
    if foreign := sorted(names & outer):
        raise NotRecordableError(
            f"{function.__name__} uses {foreign[0]!r}; a function for t.use may use its arguments, "
            "torch, nn, F and math"
        )
    return text
