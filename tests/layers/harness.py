"""Run one layer through both lowerings and hold it against an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support import NEAR_ZERO, assert_close, onnx_session, run_onnx

from caffe2torch.errors import Caffe2TorchError, UnsupportedLayerError
from caffe2torch.graph import Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers import Layer
from caffe2torch.lower.batch import batch_of
from caffe2torch.lower.eager import function_of, module_of
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_source import to_source
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.draft import BlobSource, State
from caffe2torch.pipeline import build_graph

WITHOUT_SOURCE = {"InfogainLoss"}
"""Types with no source form, or with none for some parameters."""


def build(
    layer_text: str,
    shapes: Sequence[Sequence[int]],
    tops: int,
    blobs: Sequence[Any] = (),
    phase: str = "TEST",
) -> Graph:
    """A net of Input layers b0, b1, ... and the layer ``l`` with tops t0, t1, ..."""
    text = ""
    for index, shape in enumerate(shapes):
        dims = " ".join(f"dim: {size}" for size in shape)
        text += (
            f'layer {{ name: "i{index}" type: "Input" top: "b{index}" '
            f"input_param {{ shape {{ {dims} }} }} }}\n"
        )
    ends = [f'bottom: "b{i}"' for i in range(len(shapes))] + [f'top: "t{i}"' for i in range(tops)]
    net = parse_prototxt(text + f'name: "n" layer {{ name: "l" {layer_text} {" ".join(ends)} }}')
    for blob in blobs:
        array = np.asarray(blob, np.float32)
        written = net.layer[-1].blobs.add()
        written.shape.dim.extend(array.shape)
        written.data.extend(array.ravel().tolist())
    return build_graph(net, BlobSource(), State(phase))


def check_layer(
    layer_text: str,
    inputs: Sequence[Any],
    expected: Sequence[Any],
    blobs: Sequence[Any] = (),
    phase: str = "TEST",
    onnx: bool = True,
    rtol_peak: float = 2e-5,
    batch_inputs: Sequence[Any] | None = None,
    batch_expected: Sequence[Any] | None = None,
    fixed_rows: bool = True,
) -> None:
    """Assert that both lowerings give ``expected``, and agree on a larger batch.

    The source form must give the very numbers of the torch form, and detections have a form of
    ``fixed_rows``, too, but where there are too many boxes for it.
    """
    arrays = [np.asarray(x, np.float32) for x in inputs]
    graph = build(layer_text, [x.shape for x in arrays], len(expected), blobs, phase)
    module = to_torch(graph)
    session = onnx_session(complete(to_onnx(graph))) if onnx else None
    source = _source_module(graph)
    _check(graph, module, session, source, arrays, expected, rtol_peak)
    if session is not None and fixed_rows and 2 in graph.nodes[-1].layer.free_axes:
        _check_fixed_rows(graph, arrays, np.asarray(expected[0]), rtol_peak)
    for value, array in zip((f"t{i}" for i in range(len(expected))), expected, strict=True):
        declared = graph.shapes[graph.blobs[value]]
        free = graph.nodes[-1].layer.free_axes
        for axis, (want, got) in enumerate(zip(declared, np.shape(array), strict=True)):
            assert want == got or axis in free
    if batch_inputs is not None:
        more = [np.asarray(x, np.float32) for x in batch_inputs]
        _check(graph, module, session, source, more, batch_expected or (), rtol_peak)
    elif session is not None and batch_of(graph) is not None:
        batch = batch_of(graph)
        larger = [np.concatenate([x, x[:1]]) if len(x) == batch else x for x in arrays]
        torch_outputs = _run_torch(graph, module, larger)
        for name, value in _run_onnx(session, larger).items():
            _close(value, torch_outputs[name], rtol_peak, f"{name} at another batch")


def run_layer(
    layer: Layer, inputs: Sequence[torch.Tensor], params: Mapping[str, torch.Tensor], training: bool
) -> Any:
    """The torch form of ``layer`` alone, on ``params`` themselves, which training may change."""
    shapes = [tuple(x.shape) for x in inputs]
    module = module_of(layer, shapes).train(training)
    for name, tensor in params.items():
        if name in layer.buffers:
            module.register_buffer(name, tensor)
        else:
            module.register_parameter(name, torch.nn.Parameter(tensor))
    return function_of(layer, module, shapes)(*inputs)


def layer_error(
    layer_text: str,
    shapes: Sequence[Sequence[int]],
    blobs: Sequence[Any] = (),
    tops: int = 1,
    phase: str = "TEST",
) -> Caffe2TorchError:
    """The error that building the net raises."""
    with pytest.raises(Caffe2TorchError) as caught:
        build(layer_text, shapes, tops, blobs, phase)
    return caught.value


def _run_torch(graph: Graph, module: Any, arrays: Sequence[Any]) -> dict[str, Any]:
    feed = {
        f"b{i}": torch.from_numpy(np.ascontiguousarray(x).reshape(x.shape))
        for i, x in enumerate(arrays)
    }
    with torch.no_grad():
        output = module(feed)
    named = output if isinstance(output, dict) else {graph.outputs[0]: output}
    return {name: tensor.numpy() for name, tensor in named.items()}


def _run_onnx(session: Any, arrays: Sequence[Any]) -> dict[str, Any]:
    wanted = {i.name for i in session.get_inputs()}
    return run_onnx(session, {f"b{i}": x for i, x in enumerate(arrays) if f"b{i}" in wanted})


def _check_fixed_rows(graph: Graph, arrays: Sequence[Any], expected: Any, rtol_peak: float) -> None:
    """The rows of detections, and then rows of -1, as many as the form declares."""
    model = complete(to_onnx(graph, fixed_rows=True))
    (found,) = _run_onnx(onnx_session(model), arrays).values()
    declared = model.graph.output[0].type.tensor_type.shape.dim
    assert found.shape == tuple(dim.dim_value for dim in declared)
    count = expected.shape[2]
    _close(found[:, :, :count], expected, rtol_peak, "fixed rows")
    assert (found[:, :, count:] == -1).all()


def _source_module(graph: Graph) -> Any:
    """The module that emitted source makes, with the graph's arrays; None if it has none."""
    try:
        text = to_source(graph)
    except UnsupportedLayerError as error:
        if error.layer != "l" or error.type not in WITHOUT_SOURCE:
            raise
        return None
    scope: dict[str, Any] = {"__file__": "net.py", "__name__": "emitted"}
    exec(compile(text, "net.py", "exec"), scope)
    module = scope["N"]()
    plain = to_torch(graph)
    module.load_state_dict(plain.state_dict())
    return module.train(plain.training)


def _run_source(graph: Graph, module: Any, arrays: Sequence[Any]) -> dict[str, Any]:
    feed = [torch.from_numpy(np.ascontiguousarray(x).reshape(x.shape)) for x in arrays]
    with torch.no_grad():
        output = module(*feed)
    named = output if isinstance(output, dict) else {graph.outputs[0]: output}
    return {name: tensor.numpy() for name, tensor in named.items()}


def _check(
    graph: Graph,
    module: Any,
    session: Any,
    source: Any,
    arrays: Any,
    expected: Any,
    rtol_peak: float,
) -> None:
    state = torch.get_rng_state()
    runs = {"torch": _run_torch(graph, module, arrays)}
    if source is not None:
        torch.set_rng_state(state)
        for name, value in _run_source(graph, source, arrays).items():
            np.testing.assert_array_equal(value, runs["torch"][name], f"source {name}")
    if session is not None:
        runs["onnxruntime"] = _run_onnx(session, arrays)
    for engine, outputs in runs.items():
        for index, array in enumerate(expected):
            _close(outputs[f"t{index}"], np.asarray(array), rtol_peak, f"{engine} t{index}")


def _close(value: Any, expected: Any, rtol_peak: float, what: str) -> None:
    if not rtol_peak:
        np.testing.assert_array_equal(value, expected.astype(np.float32), what)
        return
    assert_close(value, expected, rtol_peak, absolute=NEAR_ZERO, what=what)
