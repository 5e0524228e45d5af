"""What a layer sees of ONNX and of PyTorch while its form is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from caffe2torch.graph import Array, FloatArray, Shape

if TYPE_CHECKING:
    from caffe2torch.layers._base import Layer


class OnnxBuilder(Protocol):
    """What a layer sees of the ONNX model under construction (opset 17)."""

    params: Mapping[str, str]
    """The values that hold the layer's learned arrays, by the layer's own names."""
    free_sizes: bool
    """Whether the form should not depend on the spatial sizes, where there is such a form."""
    fixed_rows: bool
    """Whether rows whose number depends on the data are to be a fixed number of them, the last of
    which are -1. A form that cannot is refused: it is told by NonZero and the like."""

    def op(
        self, op_type: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        """Append a node. Returns its output's name, a tuple of names if ``outputs`` > 1.

        An empty input name skips an optional input. Attributes that are None are left out.
        """

    def const(self, value: Array | Sequence[Any] | float, dtype: Any = np.float32) -> str:
        """The name of a constant tensor. Indices and shapes need ``dtype=np.int64``."""

    def shape(self, value: str) -> Shape:
        """The static shape of a graph value, with the declared batch size."""

    def array(self, param: str) -> FloatArray:
        """The values of a learned array, for a lowering that stores it in another form."""


class TorchBuilder(Protocol):
    """What a layer sees of PyTorch: the real thing, or a recorder that writes Python source.

    A layer's torch form is written once, over this. The module runs it on tensors; the
    emitter runs it on expressions, which note what is done to them. So the form computes
    with operators, indices, methods of tensors and with what this builder has, and branches
    on the layer's fields and the declared shapes alone.
    """

    torch: Any
    nn: Any
    F: Any
    """torch.nn.functional."""
    math: Any
    runtime: Any
    """The functions and modules of ``layers/_runtime``, which emitted source takes along."""

    @property
    def module(self) -> Any:
        """The module that ``torch_module`` made, or what the user put in its place."""

    @property
    def params(self) -> Any:
        """The layer's learned arrays as attributes: ``t.params.weight``."""

    @property
    def training(self) -> Any:
        """Whether the net trains."""

    def exact(self, value: Any) -> Any:
        """``value``, numbers in sequences, written with all digits: for float64 arithmetic.

        Other numbers are written as the shortest decimal that is the same in float32.
        """

    def check(self, layer: Layer, inputs: Sequence[Any]) -> None:
        """Raise NetError for inputs of sizes that the layer's ``infer_shapes`` refuses.

        For forms that torch would run on such sizes, or refuse without saying why. Emitted
        source leaves the check out.
        """

    def use(self, function: Callable[..., Any]) -> Any:
        """A function of a plugin's own, in plain torch, which emitted source takes along."""
