"""The engines that run a net: our two lowerings, OpenCV's Caffe reader, recorded outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from caffe2torch.artefact.read import is_artefact
from caffe2torch.errors import ParityError, UnsupportedLayerError
from caffe2torch.graph import Array, FloatArray, Graph, Shape
from caffe2torch.io.deep_compression import is_deep_compression
from caffe2torch.parity.feed import fed_shapes
from caffe2torch.parity.npz import read_npz

Blobs = dict[str, Array]
PathLike = str | os.PathLike[str]


class Engine(Protocol):
    """Runs the net on one batch and returns its blobs by Caffe name."""

    name: str

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob that the engine can show for ``inputs`` ({blob: array})."""


class TorchEngine:
    """The torch lowering on the CPU."""

    name = "torch"

    def __init__(self, graph: Graph) -> None:
        from caffe2torch.lower.to_torch import to_torch

        self.module = to_torch(graph).eval()

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob of the net."""
        import torch

        with torch.no_grad():
            blobs = self.module.blobs({k: torch.from_numpy(v) for k, v in inputs.items()})
        return {name: tensor.numpy() for name, tensor in blobs.items()}


class OnnxRuntimeEngine:
    """The ONNX lowering in ONNX Runtime, with every blob as an output."""

    name = "onnxruntime"

    def __init__(self, graph: Graph) -> None:
        import onnxruntime

        from caffe2torch.lower.to_onnx import complete, to_onnx

        model = complete(to_onnx(graph))
        known = {output.name for output in model.graph.output}
        inputs = {value.name for value in model.graph.input}
        by_value = {value: blob for blob, value in graph.blobs.items() if value not in inputs}
        model.graph.output.extend(
            info
            for info in model.graph.value_info
            if info.name in by_value and info.name not in known
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.names = [output.name for output in self.session.get_outputs()]
        self.blob_of = dict(by_value)

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob that is a value of the graph."""
        values = self.session.run(self.names, dict(inputs))
        return {
            self.blob_of.get(name, name): value
            for name, value in zip(self.names, values, strict=True)
        }


class OpenCVEngine:
    """OpenCV's own Caffe reader (4.x) on the original weights, independent of our reading.

    Without a prototxt OpenCV is given the graph's definition: of a training snapshot it
    would run the data and loss layers too.
    """

    name = "opencv"

    def __init__(self, graph: Graph, model: PathLike | None, prototxt: PathLike | None) -> None:
        import cv2

        if model is None or is_deep_compression(model) or is_artefact(model):
            raise ParityError("OpenCV needs a .caffemodel")
        net = graph.definition.encode() if prototxt is None else Path(prototxt).read_bytes()
        try:
            self.net = cv2.dnn.readNetFromCaffe(
                np.frombuffer(net, np.uint8), np.fromfile(model, np.uint8)
            )
        except cv2.error as error:
            raise ParityError(f"OpenCV cannot read the net: {_first_line(error)}") from error
        # A layer that is fused into another, or writes into a Concat's memory, shows garbage.
        self.net.enableFusion(False)
        by_value = {value: blob for blob, value in graph.blobs.items()}
        self.shown = {
            node.layer.name: by_value[node.outputs[0]]
            for node in graph.nodes
            if node.outputs[:1] and node.outputs[0] in by_value
        }

    @staticmethod
    def available() -> bool:
        """Whether the installed OpenCV has a Caffe reader; 5 has none."""
        import cv2

        return hasattr(cv2.dnn, "readNetFromCaffe")

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """The first output of every layer that OpenCV knows by its Caffe name."""
        import cv2

        for name, array in inputs.items():
            self.net.setInput(array, name if len(inputs) > 1 else "")
        known = set(self.net.getLayerNames())
        layers = [name for name in self.shown if name in known]
        try:
            values = self.net.forward(layers)
        except cv2.error as error:
            raise ParityError(f"OpenCV cannot run the net: {_first_line(error)}") from error
        return {
            self.shown[name]: np.array(value) for name, value in zip(layers, values, strict=True)
        }


class ReferenceEngine:
    """Recorded outputs of Caffe: an npz with a key for each blob, in the order of the inputs.

    Keys are blob names, or ``model/blob``; ``model`` is matched against the name of the file
    where several models are recorded.
    """

    name = "reference"

    def __init__(self, path: str | os.PathLike[str], graph: Graph, model: str | None) -> None:
        recorded = read_npz(path, "recorded outputs")
        stem = os.path.splitext(os.path.basename(model or ""))[0]
        self.blobs: Blobs = {}
        for blob in graph.blobs:
            keys = [k for k in recorded if k == blob or k == f"{stem}/{blob}"]
            keys = keys or [k for k in recorded if k.endswith(f"/{blob}")]
            if len(keys) > 1:
                raise ParityError(
                    f"{path} has several records of {blob!r} ({', '.join(keys)}) and none is for "
                    f"{stem!r}. Name the model file as in the record."
                )
            if keys:
                self.blobs[blob] = recorded[keys[0]]
        if not self.blobs:
            raise ParityError(
                f"{path} has no blob of the net; it has {', '.join(sorted(recorded)[:5])}."
            )
        self.graph = graph
        self.producer = {value: node for node in graph.nodes for value in node.outputs}
        self.start = dict.fromkeys(self.blobs, 0)

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """The next batch of the record."""
        shapes = fed_shapes(self.graph, inputs)
        return {blob: self._next(blob, array, shapes) for blob, array in self.blobs.items()}

    def _next(self, blob: str, array: Array, shapes: Mapping[str, Shape]) -> Array:
        """As many rows of the record as the blob has for the inputs at hand."""
        value, start = self.graph.blobs[blob], self.start[blob]
        shape = shapes[value]
        if not shape or not array.ndim or self._rows_vary(value):
            if start:
                raise ParityError(
                    f"the record of {blob!r} has no rows to tell batches by; feed all inputs in "
                    "one batch."
                )
            self.start[blob] = 1
            return array
        self.start[blob] += shape[0]
        part = array[start : start + shape[0]]
        if len(part) < shape[0]:
            raise ParityError(f"the record of {blob!r} ends before the inputs do.")
        return part

    def _rows_vary(self, value: str) -> bool:
        node = self.producer.get(value)
        return node is not None and 0 in node.layer.free_axes


def start_engines(
    graph: Graph, names: Sequence[str], model: PathLike | None, prototxt: PathLike | None
) -> tuple[list[Engine], dict[str, str]]:
    """The engines of ``names`` that can run ``graph``, and why the others cannot."""

    def opencv() -> Engine:
        if not OpenCVEngine.available():
            raise ParityError("the installed OpenCV has no Caffe reader (4.x has one)")
        return OpenCVEngine(graph, model, prototxt)

    makers: dict[str, Callable[[], Engine]] = {
        "torch": lambda: TorchEngine(graph),
        "onnxruntime": lambda: OnnxRuntimeEngine(graph),
        "opencv": opencv,
    }
    running: list[Engine] = []
    skipped = {}
    for name in names:
        try:
            running.append(makers[name]())
        except (ParityError, UnsupportedLayerError) as error:
            skipped[name] = str(error)
    return running, skipped


def with_every_value(graph: Graph) -> Graph:
    """``graph`` with every value as a blob, so that engines show what in-place layers read."""
    return replace(
        graph,
        blobs={value: value for value in graph.shapes},
        outputs=tuple(graph.blobs[blob] for blob in graph.outputs),
    )


def _first_line(error: Any) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
