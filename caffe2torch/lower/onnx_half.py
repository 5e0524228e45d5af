"""An ONNX model whose learned arrays are stored in half precision."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from caffe2torch.io.arrays import to_half
from caffe2torch.lower.to_onnx import OnnxModel


def halve(model: OnnxModel) -> OnnxModel:
    """Store the weights of ``model`` as float16, each widened by a Cast where it is used.

    The graph goes on to compute in float32, with inputs and outputs as before: it runs in
    every engine, also where a layer has no half-precision form, and gives what the half
    .pt and .safetensors do. Engines fold the Casts when they load the file, so that it is
    as fast as the float32 one.
    """
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    values = (name for node in skeleton.graph.node for name in (*node.input, *node.output))
    taken = {*values, *(i.name for i in skeleton.graph.input)}
    stored = {key: _fresh(f"{key}@half", taken) for key in model.weights}
    casts = [
        helper.make_node("Cast", [half], [key], name=f"{half}/Cast", to=TensorProto.FLOAT)
        for key, half in stored.items()
    ]
    nodes = [*casts, *model.skeleton.graph.node]
    del skeleton.graph.node[:]
    skeleton.graph.node.extend(nodes)
    halves = to_half(model.weights)
    return OnnxModel(skeleton, {half: halves[key] for key, half in stored.items()})


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name
