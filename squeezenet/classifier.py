"""A file of weights made ready to classify, on any engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffe2torch.artefact.write import FORMAT
from caffe2torch.engines import Engine, Job, start_engine
from caffe2torch.engines.onnxruntime import Session
from caffe2torch.errors import ReadError, SessionError, first_line
from caffe2torch.images import read_class_names
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.training.distributed import ALONE, Team, choose_device
from squeezenet.checkpoint import CONTENT_ERRORS
from squeezenet.data import BadImages, ImageDataset
from squeezenet.evaluate import Metrics, Predict, evaluate, on_device
from squeezenet.export import graph_of
from squeezenet.preprocess import Transform, complete
from squeezenet.sources import open_split
from squeezenet.weights import load_model


@dataclass(frozen=True)
class Classifier:
    """A net that is ready to classify, how its input is made, and its classes."""

    predict: Predict
    transform: Transform
    num_classes: int
    class_names: tuple[str, ...] = ()


def open_classifier(
    weights: Path,
    engine: str,
    device: str,
    protocol: str | None = None,
    class_names: Path | None = None,
    precision: str = "fp32",
    decode: str = "exact",
) -> Classifier:
    """Make ready a file of weights on an engine of ``caffe2torch.engines``.

    ONNX Runtime takes an .onnx file as it is; of other weights engines run the graph, and
    torch the model on ``device``. ``protocol`` overrides the one that the weights expect,
    which is Caffe's unless a checkpoint says otherwise; ``class_names`` is a file of names
    for those that a checkpoint carries. A ``precision`` below fp32 is for the engine torch;
    ``decode`` is as in ``Transform``.
    """
    if precision != "fp32" and engine != "torch":
        raise ReadError(f"--precision {precision} is for --engine torch, not {engine}")
    if weights.suffix == ".onnx":
        if engine != "onnxruntime":
            raise ReadError(f"{weights} is an ONNX file: use --engine onnxruntime")
        opened = _of_onnx(weights)
    else:
        loaded = load_model(weights)
        if engine == "torch":
            predict = on_device(loaded.model, choose_device(device), precision=precision)
        else:
            graph = graph_of(loaded.model, loaded.transform.crop, softmax=False)
            started = start_engine(engine, Job(graph, weights, every_blob=False))
            predict = _predict(started, graph.inputs[0].name, graph.outputs[0])
        opened = Classifier(predict, loaded.transform, loaded.model.num_classes, loaded.class_names)
    made = opened.transform.preprocessing
    if protocol is not None:
        made = replace(made, protocol=protocol)
    transform = replace(opened.transform, preprocessing=made, decode=decode)
    opened = replace(opened, transform=transform)
    if class_names is not None:
        opened = replace(opened, class_names=read_class_names(class_names))
    return opened


def evaluate_files(
    classifier: Classifier,
    data: Path,
    listing: str | None,
    *,
    batch_size: int,
    workers: int,
    on_bad_image: str,
    report: Callable[[str], None],
    team: Team = ALONE,
) -> Metrics:
    """Evaluate a classifier on what ``open_split`` opens, shared by a team."""
    source = open_split(data, listing, "val", team).source
    dataset = ImageDataset(source, classifier.transform, seed=None)
    return evaluate(
        classifier.predict,
        dataset,
        classifier.num_classes,
        batch_size=batch_size,
        workers=workers,
        bad=BadImages(on_bad_image, report),
        team=team,
    )


def _of_onnx(path: Path) -> Classifier:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
    model = _read_model(data, path)
    transform, classes = _recorded_transform(model, path), _without_softmax(model, path)
    try:
        session = Session(model.SerializeToString())
    except SessionError as error:
        raise ReadError(f"{path}: {error}") from error
    predict = _predict(session, next(iter(session.inputs)), next(iter(session.outputs)))
    return Classifier(predict, transform, classes)


def _predict(engine: Engine, images: str, logits: str) -> Predict:
    """The output ``logits`` for the input ``images`` of an engine."""

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(engine.run({images: batch.numpy()})[logits]).flatten(1).float()

    return Predict(run)


def _recorded_transform(model: Any, source: Path) -> Transform:
    """What makes the input of an ONNX model; without our metadata, of the published nets."""
    text = next((entry.value for entry in model.metadata_props if entry.key == FORMAT), None)
    try:
        record = json.loads(text)["preprocessing"] if text else None
        return Transform(complete(Preprocessing.from_record(record), source))
    except (*CONTENT_ERRORS, RecursionError) as error:
        raise ReadError(f"{source}: its metadata is incomplete ({error})") from error


def _read_model(data: bytes, source: Path) -> Any:
    """The ONNX model with at least one output that a file holds."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
        model.graph.output[0]
    except (DecodeError, onnx.checker.ValidationError, LookupError, ValueError) as error:
        raise ReadError(f"{source} is not a valid ONNX file: {first_line(error)}") from error
    return model


def _without_softmax(model: Any, source: Path) -> int:
    """Take a softmax off the end of an ONNX model; returns the number of its classes."""
    graph, output = model.graph, model.graph.output[0]
    last = next((node for node in graph.node if output.name in node.output), None)
    if last is not None and last.op_type == "Softmax" and last.input:
        output.name = last.input[0]
        graph.node.remove(last)
    dims = output.type.tensor_type.shape.dim
    if len(dims) < 2 or not dims[1].dim_value:
        raise ReadError(f"{source} does not say how many classes its output {output.name!r} has")
    return int(dims[1].dim_value)
