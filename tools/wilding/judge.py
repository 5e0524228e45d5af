"""One net through reading, torch, ONNX Runtime, float64 and OpenCV, to one finding."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.api import read
from caffe2torch.compare import BlobDifference, common_blobs
from caffe2torch.engines import BASELINE, Blobs, Job, start_engine
from caffe2torch.errors import ArtefactError, Caffe2TorchError, EngineError, WeightsError
from caffe2torch.graph import FloatArray, Graph, Shape
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import Message
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.layers import find_layer
from caffe2torch.lower.batch import batch_of, fed_shapes
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.parity.inputs import random_batches
from caffe2torch.passes.draft import Draft, Options, State
from caffe2torch.passes.filter_layers import filter_layers
from caffe2torch.pipeline import UPGRADES, build_graph, run
from wilding.weights import with_random_weights

RIGHT, DIFFERENT, REFUSED, CRASH, TIMEOUT = "right", "different", "refused", "crash", "timeout"
READ = "read"
"""The outcome of a net that is only read, and could be."""
OUTCOMES = (RIGHT, READ, DIFFERENT, REFUSED, CRASH, TIMEOUT)

SEED = 0
ROWS = 2
"""Most items of a batch that are fed where the net takes any number."""
MOST_VALUES = 1 << 28
"""Of all blobs of a net together: 1 GiB in each engine."""
GUESSES: tuple[tuple[str, Shape], ...] = (
    ("mnist|(?<!goog)lenet", (1, 1, 28, 28)),
    ("cifar", (1, 3, 32, 32)),
    ("", (1, 3, 224, 224)),
)
"""The shape of an input that the net does not say, by a pattern of the net's name."""
MOST_GUESSES = 4
NUDGE = 2.0**-22
"""How far the inputs and weights of the float64 run are moved, relatively: 4 float32 roundings."""
NUDGED_RUNS = 3
ROUNDING = 40.0
"""An engine may be as many times as far from float64 as the nudged runs are.

OpenCV's Winograd convolutions are 24 times as far, where direct ones are once.
"""
CHAOS = 0.01
"""Where the nudged runs move a blob by so much of its peak, what is made of it is not judged."""


@dataclass(frozen=True)
class Net:
    """A net to run: its name, the kind of file, the file, and weights that lie beside it."""

    name: str
    kind: str
    path: Path
    weights: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What became of a net.

    ``stage`` is the last that was begun. ``reason`` has no names or numbers of the net, so that
    equal reasons are equal texts; ``detail`` is the whole message. ``lacks`` are the layer types
    and fields that the package does not know, ``opencv`` says ``right``, ``different`` or why
    OpenCV did not run.
    """

    net: str
    kind: str
    outcome: str
    stage: str = ""
    reason: str = ""
    lacks: str = ""
    opencv: str = ""
    weights: str = ""
    shapes: str = ""
    seconds: float = 0.0
    detail: str = ""


def judge(net: Net, folder: Path, tell: Callable[[str], None], read_only: bool) -> Finding:
    """Run ``net``; ``tell`` is called with each stage as it begins, ``folder`` is for files."""
    judgement = _Judgement(net, folder, tell)
    try:
        judgement.run(read_only)
    except Caffe2TorchError as error:
        judgement.end(REFUSED, _reason(error, judgement.names), str(error))
    except MemoryError:
        judgement.end(TIMEOUT, "more memory than a net may take")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} in {Path(place.filename).name}, {place.name}"
        judgement.end(CRASH, reason, str(error))
    return judgement.finding


class _Judgement:
    """The stages of one net; ``finding`` grows with them."""

    def __init__(self, net: Net, folder: Path, tell: Callable[[str], None]) -> None:
        self.net, self.folder, self.tell = net, folder, tell
        self.finding = Finding(net.name, net.kind, RIGHT)
        self.names: set[str] = set()
        self.model: Path | None = None
        self.exact: _Exact | None = None

    def run(self, read_only: bool) -> None:
        """All stages. Raises what the package raises."""
        self._stage("read")
        is_model = self.net.kind == "caffemodel"
        message = read_caffemodel(self.net.path).net if is_model else read_prototxt(self.net.path)
        self.names = _names(message)
        self.note(lacks="; ".join(missing(message, is_model)))
        if is_model:
            self.model = self.net.path
            self.note(weights="genuine")
            graph = self._shaped(message, lambda shapes: read(self.model, input_shapes=shapes))
        else:
            graph = self._shaped(message, lambda shapes: _without_weights(message, shapes))
        if read_only:
            self.note(outcome=READ)
            return
        graph = graph if is_model else self._with_weights(graph)
        inputs = _inputs(graph)
        if sum(map(prod, fed_shapes(graph, inputs).values())) > MOST_VALUES:
            self.end(TIMEOUT, "more values in its blobs than a run may take")
            return
        self._stage("torch")
        job = Job(graph, self.model, self._prototxt())
        ours = start_engine(BASELINE, job).run(inputs)
        self._stage("onnxruntime")
        onnx = start_engine("onnxruntime", job).run(inputs)
        if not self._agree("onnxruntime", graph, inputs, ours, onnx):
            return
        self._stage("opencv")
        if self.model is None:
            self.note(opencv="no caffemodel can hold its weights")
            return
        try:
            theirs = start_engine("opencv", job).run(inputs)
        except EngineError as error:
            self.note(opencv=plain(str(error), self.names))
            return
        agrees = self._agree("opencv", graph, inputs, ours, theirs)
        self.note(opencv=RIGHT if agrees else DIFFERENT)

    def note(self, **fields: Any) -> None:
        """Put ``fields`` into the finding."""
        self.finding = replace(self.finding, **fields)

    def end(self, outcome: str, reason: str, detail: str = "") -> None:
        """Note the outcome, of the stage that is under way."""
        self.note(outcome=outcome, reason=reason, detail=" ".join(detail.split())[:500])

    def _stage(self, name: str) -> None:
        self.note(stage=name)
        self.tell(name)

    def _prototxt(self) -> Path | None:
        """What OpenCV reads: a deploy net as it is, of others what is left in phase TEST."""
        return self.net.path if self.net.kind == "deploy" and not self.finding.shapes else None

    def _shaped(self, message: Message, make: Callable[[Mapping[str, Shape]], Graph]) -> Graph:
        """The graph that ``make`` makes of input shapes: those that the net lacks are guessed."""
        shapes: dict[str, Shape] = {}
        while True:
            try:
                return make(shapes)
            except Caffe2TorchError as error:
                asked = re.search(r"--input-shape (.+?)=1,", str(error))
                if asked is None or len(shapes) == MOST_GUESSES or asked[1] in shapes:
                    raise
                shapes[asked[1]] = guess(self.net.name, asked[1], message)
                given = (f"{blob}={','.join(map(str, shape))}" for blob, shape in shapes.items())
                self.note(shapes=" ".join(given))

    def _with_weights(self, graph: Graph) -> Graph:
        """The graph with the weights beside it, else with random ones from a caffemodel."""
        shapes = {i.name: i.shape for i in graph.inputs} if self.finding.shapes else None
        for path in self.net.weights:
            try:
                found = read(path, self.net.path, input_shapes=shapes)
            except WeightsError:
                continue
            self.model = path
            self.note(weights="genuine")
            return found
        self.note(weights="random")
        graph = with_random_weights(graph)
        model = self.folder / "net.caffemodel"
        try:
            write_caffemodel(graph, model)
        except ArtefactError:  # Two layers with weights share a name, or it is above 2 GiB.
            return graph
        self.model = model
        return read(model, self.net.path, input_shapes=shapes)

    def _agree(
        self, engine: str, graph: Graph, inputs: Mapping[str, FloatArray], ours: Blobs, other: Blobs
    ) -> bool:
        """Whether the engine's blobs are torch's, but for rounding; else note the first."""
        for difference in differences(graph, ours, other):
            blob = difference.blob
            if ours[blob].size == other[blob].size:
                self.tell("float64")
                self.exact = self.exact or _Exact(graph, inputs)
                if all(self.exact.explains(blob, blobs[blob]) for blobs in (ours, other)):
                    continue
            made = next((n for n in graph.nodes if graph.blobs[blob] in n.outputs), None)
            kind = made.layer.type if made else "input"
            what = "values" if ours[blob].size == other[blob].size else "shape"
            text = (
                f"blob {blob!r}: {difference.max_abs:.3g} of {difference.peak:.3g}, shapes "
                f"{ours[blob].shape} and {other[blob].shape}"
            )
            self.end(DIFFERENT, f"{what} of {engine}, first at {kind}", text)
            return False
        return True


class _Exact:
    """The torch module in float64, and how far small changes of its numbers move each blob."""

    def __init__(self, graph: Graph, inputs: Mapping[str, FloatArray]) -> None:
        self.blobs = _float64(graph, inputs, None)
        rng = np.random.default_rng(SEED)
        nudged = [_float64(graph, inputs, rng) for _ in range(NUDGED_RUNS)]
        self.spread = {
            blob: max(_furthest(exact, run[blob]) for run in nudged)
            for blob, exact in self.blobs.items()
        }
        blob_of = {value: blob for blob, value in graph.blobs.items()}
        self.lost: set[str] = set()
        for node in graph.nodes:
            moved = any(self._chaotic(blob_of[v]) for v in node.inputs if v in blob_of)
            if moved or self.lost.intersection(node.inputs):
                self.lost.update(node.outputs)
        self.lost = {blob_of[value] for value in self.lost if value in blob_of}

    def _chaotic(self, blob: str) -> bool:
        peak = float(np.max(np.abs(self.blobs[blob]), initial=0))
        return self.spread[blob] > CHAOS * peak

    def explains(self, blob: str, found: npt.NDArray[Any]) -> bool:
        """Whether rounding explains what an engine found for ``blob``."""
        if blob in self.lost:
            return True
        exact = self.blobs[blob]
        judged = BlobDifference(blob)
        judged.add(exact, found)
        return bool(judged.max_abs <= max(judged.limit(None), ROUNDING * self.spread[blob]))


def _float64(
    graph: Graph, inputs: Mapping[str, FloatArray], rng: np.random.Generator | None
) -> Blobs:
    """Every blob in float64; with ``rng``, inputs and weights are nudged first."""
    import torch

    module = to_torch(graph).eval().double()
    arrays = {name: torch.from_numpy(np.asarray(a, np.float64)) for name, a in inputs.items()}
    with torch.no_grad():
        if rng is not None:
            for tensor in (*module.parameters(), *arrays.values()):
                noise = torch.from_numpy(rng.uniform(-NUDGE, NUDGE, tuple(tensor.shape)))
                tensor.mul_(1 + noise)
        return {name: tensor.numpy() for name, tensor in module.blobs(arrays).items()}


def _furthest(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """The largest difference; infinite where the shapes depend on the data and differ."""
    if first.size != second.size:
        return float("inf")
    difference = BlobDifference("")
    difference.add(first, second)
    return difference.max_abs


def differences(graph: Graph, ours: Blobs, other: Blobs) -> Iterator[BlobDifference]:
    """The blobs that differ by more than the package's tolerance, in the order of the net."""
    fed = {i.name for i in graph.inputs}
    for blob in common_blobs([b for b in graph.blobs if b not in fed], ours, other):
        difference = BlobDifference(blob)
        same_size = ours[blob].size == other[blob].size
        if same_size:
            difference.add(ours[blob], other[blob])
        if not same_size or difference.exceeds(None):
            yield difference


def missing(message: Message, of_weights: bool = False) -> list[str]:
    """The layer types, and else the fields, of the net in phase TEST that are not known.

    ``source`` is a type without bottoms, ``last`` one whose tops no layer reads, ``type`` any
    other. Empty where the net is refused before its layers are looked at.
    """
    draft = Draft(deepcopy(message), options=Options(of_weights=of_weights))
    try:
        layers = run((*UPGRADES, filter_layers), draft).net.layer
    except Caffe2TorchError:
        return []
    is_read = {bottom for layer in layers for bottom in layer.bottom}
    found: dict[str, None] = {}
    for layer in layers:
        notes = [plain(note, set()) for note in layer.unknown_field]
        if find_layer(layer.type) is None:
            role = "type" if is_read.intersection(layer.top) else "last"
            found[f"{role if layer.bottom else 'source'} {_type_name(layer, notes)}"] = None
        else:
            found.update((f"field {layer.type} {note}", None) for note in notes)
    return list(found)


def _type_name(layer: Message, notes: Sequence[str]) -> str:
    """The type as the net writes it: of a Python layer its class, of a V1 layer its number."""
    if layer.type == "Python":
        return f"Python {layer.python_param.module}.{layer.python_param.layer}"
    old = next((note for note in notes if note.startswith("type: ")), "type: none")
    return str(layer.type or f"V1 {old.removeprefix('type: ')}")


def _inputs(graph: Graph) -> dict[str, FloatArray]:
    """Random inputs, of few items where the net takes any number of them."""
    batch = batch_of(graph)
    arrays = next(iter(random_batches(graph, 1))).inputs
    return {
        name: a[:ROWS] if a.ndim and batch is not None and len(a) == batch else a
        for name, a in arrays.items()
    }


def _without_weights(message: Message, shapes: Mapping[str, Shape]) -> Graph:
    return build_graph(message, None, State(), Options(input_shapes=shapes))


def guess(net: str, blob: str, message: Message) -> Shape:
    """A shape for an input: with the crop of its data layer where only channels are unknown."""
    for layer in [*message.layer, *message.layers]:
        if blob in layer.top and layer.HasField("transform_param"):
            crop = layer.transform_param.crop_size
            if crop:
                return (1, 3, crop, crop)
    return next(shape for pattern, shape in GUESSES if re.search(pattern, net.lower()))


def _names(message: Message) -> set[str]:
    """Names that the net gives to layers and blobs."""
    layers = [*message.layer, *message.layers]
    return {str(n) for layer in layers for n in (layer.name, *layer.bottom, *layer.top)}


def _reason(error: Caffe2TorchError, names: set[str]) -> str:
    """Why a net was refused, in words that do not depend on the net."""
    if error.field == "type" and error.type:
        return f"unknown layer type {error.type}"
    where = ", ".join(filter(None, (error.type, error.field)))
    text = plain(error.reason, names)
    return f"{where}: {text}" if where else text


def plain(text: str, names: set[str]) -> str:
    """The first sentence of ``text`` without places, names of the net, and numbers."""
    text = re.sub(r"^\S.*?\.(prototxt|caffemodel)(:\d+:\d+)?: ", "", text)
    text = re.sub(r" ?\(line \d+, column \d+\)", "", text)
    text = re.split(r"\. |; ", text, maxsplit=1)[0]
    text = re.sub(r"OpenCV\(\S+\) \S+ error: \(.*?\) ", "", text)
    text = re.sub(r"""(['"])([^'"]*)\1""", lambda m: "'...'" if m[2] in names else m[0], text)
    return " ".join(re.sub(r"(?<![\w.])\d+(\.\d+)?(e[+-]?\d+)?\b", "N", text).split())[:200]
