"""What computes the logits of an evaluation or an inference: torch or ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffe2torch.artefact.metadata import FORMAT
from caffe2torch.errors import ReadError
from squeezenet.data import BadImages, ImageDataset
from squeezenet.distributed import Team, choose_device
from squeezenet.evaluate import Metrics, Predict, evaluate
from squeezenet.loader import checked, make_loader
from squeezenet.loading import load_model, transform_of
from squeezenet.sampler import EvalSampler
from squeezenet.sources import open_split
from squeezenet.transforms import Transform
from squeezenet.weights import CONTENT_ERRORS, preprocessing_of


@dataclass(frozen=True)
class Engine:
    """A net that is ready to run, how its input is made, and its classes."""

    predict: Predict
    transform: Transform
    num_classes: int
    class_names: tuple[str, ...] = ()


def open_engine(weights: Path, name: str, device: str, protocol: str | None) -> Engine:
    """Make ready the engine "torch" or "onnxruntime" for a file of weights.

    ONNX Runtime takes an .onnx file as it is, and the ONNX form of any other weights.
    ``protocol`` overrides the one that the weights expect, which is Caffe's unless a
    checkpoint says otherwise.
    """
    if weights.suffix == ".onnx":
        if name != "onnxruntime":
            raise ReadError(f"{weights} is an ONNX file: use --engine onnxruntime")
        data = _read(weights)
        predict, classes = _onnxruntime(data, weights)
        engine = Engine(predict, _recorded_transform(data, weights), classes)
    else:
        loaded = load_model(weights)
        classes = loaded.model.num_classes
        if name == "onnxruntime":
            from squeezenet.export import onnx_bytes

            predict, _ = _onnxruntime(onnx_bytes(loaded.model, loaded.transform.crop), weights)
        else:
            predict = _torch(loaded.model, choose_device(device))
        engine = Engine(predict, loaded.transform, classes, loaded.class_names)
    if protocol is not None:
        engine = replace(engine, transform=replace(engine.transform, protocol=protocol))
    return engine


def evaluate_files(
    engine: Engine,
    data: Path,
    listing: str | None,
    *,
    batch_size: int,
    workers: int,
    on_bad_image: str,
    report: Callable[[str], None],
) -> Metrics:
    """Evaluate an engine on a list, a tree of class folders or an LMDB."""
    dataset = ImageDataset(open_split(data, listing, "val").source, engine.transform, seed=None)
    loader = make_loader(dataset, EvalSampler(len(dataset), batch_size), workers=workers)
    bad = BadImages(on_bad_image, report)
    batches = checked(loader, dataset, engine.num_classes, bad)
    team = Team(0, 1, torch.device("cpu"))
    return evaluate(engine.predict, batches, engine.num_classes, bad=bad, team=team)


def _torch(model: torch.nn.Module, device: torch.device) -> Predict:
    model = model.to(device)

    def predict(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(images.to(device))
            return logits.cpu()

    return predict


def _onnxruntime(data: bytes, source: Path) -> tuple[Predict, int]:
    import onnxruntime as ort

    model, classes = _logits_model(data, source)
    try:
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
    except Exception as error:  # Its errors have no common class.
        cause = str(error).strip().split("\n", maxsplit=1)[0]
        raise ReadError(f"{source}: ONNX Runtime cannot run the model: {cause}") from error

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0]).flatten(1)

    return predict, classes


def _recorded_transform(data: bytes, source: Path) -> Transform:
    """What makes the input of a valid ONNX file; without our metadata, of the published nets."""
    import onnx

    properties = onnx.load_from_string(data).metadata_props
    text = next((entry.value for entry in properties if entry.key == FORMAT), None)
    try:
        record = json.loads(text)["preprocessing"] if text else None
        return transform_of(preprocessing_of(source, record))
    except (*CONTENT_ERRORS, RecursionError) as error:
        raise ReadError(f"{source}: its metadata is incomplete ({error})") from error


def _logits_model(data: bytes, source: Path) -> tuple[bytes, int]:
    """The model without a softmax at its end, and the number of its classes."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
        graph = model.graph
        output = graph.output[0]
    except (DecodeError, onnx.checker.ValidationError, LookupError, ValueError) as error:
        cause = str(error).strip().split("\n", maxsplit=1)[0]
        raise ReadError(f"{source} is not a valid ONNX file: {cause}") from error
    last = next((node for node in graph.node if output.name in node.output), None)
    if last is not None and last.op_type == "Softmax" and last.input:
        output.name = last.input[0]
        graph.node.remove(last)
    return model.SerializeToString(), _classes(output, source)


def _classes(output: Any, source: Path) -> int:
    dims = output.type.tensor_type.shape.dim
    if len(dims) < 2 or not dims[1].dim_value:
        raise ReadError(f"{source} does not say how many classes its output {output.name!r} has")
    return int(dims[1].dim_value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
