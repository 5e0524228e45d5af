"""The ONNX form of a net as a torch module, for consumers whose own converters read torch.

The form is what every reader reads: no ceil_mode, no window that is dropped, float32 throughout.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from caffe2torch.consumers import Consumer, Doubt, installed
from caffe2torch.consumers._aten import OPERATORS, Call, NoFormError
from caffe2torch.consumers._convert import ELSEWHERE, refusal
from caffe2torch.consumers._process import Process
from caffe2torch.consumers._rewriting import attributes_of
from caffe2torch.errors import ArtefactError, EngineError

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Graph

SECONDS = 3600.0
"""For a converter."""
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


def write_translated(
    consumer: Consumer,
    graph: Graph,
    path: Path,
    *,
    half: bool = False,
    batch: int | None = None,
    opset: int | None = None,
    **others: Any,
) -> None:
    """Write what ``consumer.translate`` makes of the net's ONNX form of fixed sizes.

    That is done in a process of its own, as converters crash on some nets. The options are those
    of ``Consumer.write``, of which ``others`` change nothing here.

    Raises ArtefactError where the consumer cannot be given the net, or its converter fails.
    """
    import onnx

    for given, option in ((half, "--half"), (opset is not None, "--opset")):
        if given:
            raise ArtefactError(f"{option} is for .onnx files, and {consumer.title} reads none.")
    model = form_of(consumer, graph, batch)
    package = consumer.packages[0]
    if installed(package.partition("==")[0]) is None:
        raise ArtefactError(
            f"{consumer.suffix} files are made by {package.partition('==')[0]}, which is not "
            f"installed here: pip install {package}."
        )
    with TemporaryDirectory(prefix="caffe2torch-") as folder:
        form = Path(folder) / "net.onnx"
        onnx.save(model, form, save_as_external_data=True, location="net.data")
        try:
            with Process(consumer, seconds=SECONDS) as process:
                process.translate(form, path)
        except EngineError as error:
            raise ArtefactError(
                f"{package} does not convert this net for {consumer.title}: {error}. {ELSEWHERE}"
            ) from error


def form_of(consumer: Consumer, graph: Graph, batch: int | None = None) -> onnx.ModelProto:
    """The ONNX form of ``graph`` of fixed sizes, of which a program can be made.

    Raises ArtefactError, which names layer and operator, where there is none.
    """
    from caffe2torch.lower.to_onnx import complete, to_onnx

    model = complete(to_onnx(graph, batch=batch, fixed_rows=True))
    try:
        module, inputs = program_of(model)
        with torch.no_grad():
            module(*inputs)
    except NoFormError as error:
        raise refusal(consumer, graph, error.doubt) from None
    return model


def program_of(model: onnx.ModelProto) -> tuple[OnnxModule, tuple[Tensor, ...]]:
    """The model of fixed sizes as a module, and inputs to trace it with."""
    sizes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
    return OnnxModule(model).eval(), tuple(torch.zeros(size) for size in sizes)
