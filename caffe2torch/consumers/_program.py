"""The ONNX form of a net as a torch module, for consumers whose own converters read torch.

The form is what every reader reads: no ceil_mode, no window that is dropped, float32 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from caffe2torch.consumers import Consumer, Doubt
from caffe2torch.consumers._aten import OPERATORS, Call, NoFormError
from caffe2torch.consumers._convert import ELSEWHERE, refusal
from caffe2torch.consumers._rewriting import attributes_of
from caffe2torch.errors import ArtefactError, one_line

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Graph

NO_FORM = "the number of values that it gives depends on the data, or nothing here does its work"


class OnnxModule(torch.nn.Module):
    """Runs the nodes of a whole ONNX model; inputs by position, outputs as a tuple.

    Raises NoFormError for an operator that has no form here, and where a size depends on data.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        super().__init__()
        graph = model.graph
        self.inputs = [info.name for info in graph.input]
        self.outputs = [info.name for info in graph.output]
        constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.keys: dict[str, str] = {}
        for number, (name, array) in enumerate(constants.items()):
            self.keys[name] = f"constant_{number}"
            self.register_buffer(self.keys[name], torch.from_numpy(np.array(array)))
        self.calls = []
        for node in graph.node:
            if node.op_type not in OPERATORS:
                raise NoFormError(Doubt(node, NO_FORM))
            given = [constants.get(name) for name in node.input]
            self.calls.append(Call(node, attributes_of(node), given))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs."""
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        values |= {name: getattr(self, key) for name, key in self.keys.items()}
        values[""] = None
        for call in self.calls:
            found = OPERATORS[call.node.op_type](call, *(values[n] for n in call.node.input))
            tops = found if isinstance(found, tuple) else (found,)
            values |= zip(call.node.output, tops, strict=True)
        return tuple(values[name] for name in self.outputs)


@contextmanager
def converting(consumer: Consumer) -> Iterator[None]:
    """A context in which the errors of the consumer's own converter are ArtefactErrors."""
    try:
        yield
    except Exception as error:  # Converters raise what they come upon.
        raise ArtefactError(
            f"{consumer.packages[0]} does not convert this net for {consumer.title}: "
            f"{one_line(str(error))}. {ELSEWHERE}"
        ) from error


def program_of(
    consumer: Consumer,
    graph: Graph,
    *,
    half: bool = False,
    batch: int | None = None,
    opset: int | None = None,
    **others: Any,
) -> tuple[OnnxModule, tuple[Tensor, ...]]:
    """The module of ``graph``, of fixed sizes, and inputs to trace it with.

    The options are those of ``Consumer.write``, of which ``others`` change no program.

    Raises ArtefactError where ``consumer`` cannot be given the net.
    """
    from caffe2torch.lower.to_onnx import complete, to_onnx

    for given, option in ((half, "--half"), (opset is not None, "--opset")):
        if given:
            raise ArtefactError(f"{option} is for .onnx files, and {consumer.title} reads none.")
    model = complete(to_onnx(graph, batch=batch, fixed_rows=True))
    sizes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
    inputs = tuple(torch.zeros(size) for size in sizes)
    try:
        module = OnnxModule(model).eval()
        with torch.no_grad():
            module(*inputs)
    except NoFormError as error:
        raise refusal(consumer, graph, error.doubt) from None
    return module, inputs
