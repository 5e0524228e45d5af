"""Gradients of converted modules against those that genuine Caffe's backward computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import OF_LAYER, assert_close, genuine

import caffe2torch
from caffe2torch.lower.to_torch import CaffeModule, to_torch

CANCELLED = 4e-6
"""Absolute: what roundings leave of some hundred terms near 1 whose sum is 0."""


def test_gradients_of_the_corpus() -> None:
    folders = sorted(path.parent for path in genuine("SHARED", "gradients").glob("*/grad.npz"))
    assert len(folders) > 60
    failed = [f"{folder.name}: {fault}" for folder in folders for fault in faults_of(folder)]
    assert not failed, "\n".join(failed)


def faults_of(folder: Path) -> list[str]:
    """What is not as in Caffe: outputs, gradients of the inputs, gradients of learned blobs."""
    case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "grad.npz") as file:
        arrays = {key: file[key] for key in file.files}
    graph = caffe2torch.read(
        folder / "net.caffemodel", folder / "net.prototxt", phase=case["phase"]
    )
    module = to_torch(graph)
    inputs = {k: torch.from_numpy(v) for k, v in part(arrays, "in/").items()}
    for name, value in inputs.items():
        value.requires_grad_(name not in case["not_differentiated"])
    outputs = module.blobs(inputs)
    top = part(arrays, "topdiff/")
    torch.autograd.backward(
        [outputs[name] for name in top], [torch.from_numpy(v) for v in top.values()]
    )
    actual: dict[str, Any] = {f"out/{name}": outputs[name].detach().numpy() for name in top}
    actual |= {f"dbottom/{n}": gradient(x) for n, x in inputs.items() if x.requires_grad}
    actual |= {f"dblob/{key}": value for key, value in learned_gradients(module).items()}
    faults = []
    for key, value in actual.items():
        if key in arrays:
            try:
                assert_close(value, arrays[key], OF_LAYER, absolute=CANCELLED, what=key)
            except AssertionError as error:
                faults.append(str(error))
    return faults


def part(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def gradient(tensor: torch.Tensor) -> Any:
    return np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()


def learned_gradients(module: CaffeModule) -> dict[str, Any]:
    """The gradients in Caffe's form, by layer/index."""
    found: dict[str, Any] = {}
    graph = module.caffe_graph
    for node in graph.nodes:
        own = module.get_submodule(node.key)
        if node.params and not node.layer.buffers:
            params = {name: gradient(getattr(own, name)) for name in node.params}
            bottoms = [graph.shapes[name] for name in node.inputs]
            for index, value in enumerate(node.layer.export_blobs(params, bottoms)):
                found[f"{node.layer.name}/{index}"] = value
    return found
