"""An object that is used as a ``cv2.dnn.Net``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from caffe2torch.errors import WeightsError
from caffe2torch.graph import Array, FloatArray, Graph, Shape
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.files import Source
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.opencv.errors import OpenCVError, as_opencv_error
from caffe2torch.opencv.inputs import Inputs, listed, scaled
from caffe2torch.opencv.layers import (
    INPUT_LAYER,
    INPUT_TYPE,
    Entry,
    Layer,
    entries_of,
    unconnected,
)
from caffe2torch.opencv.plan import Plan, make_plan
from caffe2torch.passes.draft import Options
from caffe2torch.pipeline import blob_source, build_graph

if TYPE_CHECKING:
    from caffe2torch.lower.to_onnx import OnnxModel

T = TypeVar("T")
CACHED_PLANS = 8
"""Ready graphs that are kept: one for each input size and choice of outputs."""
CACHED_GRAPHS = 2
"""Lowered nets that are kept, one for each input size."""


class Net:
    """A Caffe net behind the methods of ``cv2.dnn.Net``; made by ``readNetFromCaffe``.

    Inputs may have any size that the layers allow: the graph is made anew for each, and the
    last few are kept. Blobs are float32 arrays in Caffe's shapes.
    """

    def __init__(
        self, prototxt: Source, caffemodel: Source | None, engine: str | None = None
    ) -> None:
        self._proto, self._wanted = read_prototxt(prototxt), engine
        self._weights = blob_source(None if caffemodel is None else read_caffemodel(caffemodel))
        self._replaced: dict[str, Sequence[Blob]] = {}
        self._inputs = Inputs(self._proto)
        self._lowered: dict[Any, tuple[Graph, OnnxModel]] = {}
        self._plans: dict[Any, Plan] = {}
        self._declared: tuple[Graph, list[Entry]] | None = None
        self._incomplete: WeightsError | None = None
        self._declare()
        self._backend = self._target = 0
        self._last: Plan | None = None
        self._ticks = 0

    @property
    def engine(self) -> str | None:
        """What ran last: ``"opencv"`` or ``"onnxruntime"``; None before the first run."""
        return self._last.name if self._last else None

    @property
    def engine_reason(self) -> str | None:
        """Why OpenCV did not run it, where ONNX Runtime did for a reason."""
        return self._last.reason if self._last else None

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """The declared shapes of the inputs by blob; not those of what ``setInput`` was given."""
        if self._declared is None:
            return dict(self._inputs.shapes)
        return {i.name: i.shape for i in self._graph.inputs}

    def empty(self) -> bool:
        """Whether the net has no layers."""
        return self._declared is not None and not self._entries

    def setInput(self, blob: Any, name: str = "", scalefactor: float = 1.0, mean: Any = ()) -> None:
        """Set an input, the first without a ``name``, to scalefactor * (blob - mean).

        ``mean`` is one number a channel, at most four; a single number is the first
        channel's, as everywhere in OpenCV.
        """
        blob_name = self._inputs.find(name, "setInput")
        value = scaled(blob, scalefactor, mean)
        if blob_name in self._inputs.open():
            self._set_shape(blob_name, value.shape)
        self._inputs.arrays[blob_name] = value

    def setInputShape(self, inputName: str, shape: Sequence[int]) -> None:
        """Declare the shape of an input, of which the prototxt may give none.

        ``setInput`` takes blobs of other shapes as well, and does this where there is none.
        """
        sizes = tuple(int(size) for size in shape)
        if not sizes or min(sizes) < 1:
            raise OpenCVError(f"setInputShape: {sizes} is not a shape of sizes of 1 or more.")
        self._set_shape(self._inputs.find(inputName, "setInputShape"), sizes)

    def setInputsNames(self, inputBlobNames: Sequence[str]) -> None:
        """Give the inputs other names, in the order of the net; further inputs keep theirs."""
        self._inputs.rename(inputBlobNames)

    def _set_shape(self, blob: str, shape: Shape) -> None:
        before = dict(self._inputs.shapes)
        self._inputs.shapes[blob] = shape
        try:
            with as_opencv_error():
                self._declare()
        except OpenCVError:
            self._inputs.shapes = before
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the net.

        ``forward()`` gives the last layer's output, ``forward(name)`` that of a layer,
        ``forward([name, ...])`` a tuple of them; the first output of a layer each time.
        OpenCV's ``forward(outputBlobs, outputName)`` gives a tuple of all of one layer.
        """
        kind, names = _request(args, kwargs)
        if kind == "list":
            return tuple(self._run([self._entry(name).outputs[:1] for name in names], names))
        entry = self._entry(names[0]) if names else self._entries[-1]
        outputs = entry.outputs if kind == "all" else entry.outputs[:1]
        values = self._run([(value,) for value in outputs], [entry.name])
        return tuple(values) if kind == "all" else values[0]

    def forwardAndRetrieve(self, outBlobNames: Sequence[str]) -> tuple[tuple[Array, ...], ...]:
        """For each layer a tuple of all its outputs."""
        entries = [self._entry(name) for name in outBlobNames]
        values = iter(self._run([(v,) for e in entries for v in e.outputs], outBlobNames))
        return tuple(tuple(next(values) for _ in entry.outputs) for entry in entries)

    def getLayerNames(self) -> tuple[str, ...]:
        """The names of all layers but the inputs, in order."""
        return tuple(entry.name for entry in self._entries)

    def getLayerId(self, layer: str) -> int:
        """The number of a layer, from 1; 0 is the input, -1 no layer."""
        if layer == INPUT_LAYER:
            return 0
        found = self._find(layer)
        return found.id if found else -1

    def getLayer(self, layerId: int | str) -> Layer:
        """A layer by its number or name; number 0 stands for the inputs."""
        if layerId in (0, INPUT_LAYER):
            return Layer(INPUT_LAYER, INPUT_TYPE, self._inputs.names())
        entry = self._entry(layerId)
        return Layer(entry.name, entry.type, [], self, entry)

    def getLayerTypes(self) -> tuple[str, ...]:
        """The types of the layers, each once, sorted."""
        return tuple(sorted({entry.type for entry in self._entries} | {INPUT_TYPE}))

    def getLayersCount(self, layerType: str) -> int:
        """How many layers are of a type."""
        if layerType == INPUT_TYPE:
            return 1
        return sum(entry.type == layerType for entry in self._entries)

    def getUnconnectedOutLayers(self) -> Array:
        """The numbers of the layers whose outputs no layer reads."""
        ids = [entry.id for entry in unconnected(self._graph, self._entries)]
        return np.array(ids, np.int32)

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(entry.name for entry in unconnected(self._graph, self._entries))

    def getLayersShapes(self, netInputShapes: Sequence[Any]) -> tuple[Array, Any, Any]:
        """Numbers, shapes of bottoms and shapes of tops of all layers, for shapes of the inputs.

        That is one shape, or one for each input. Number 0 stands for the inputs.
        """
        given: Any = [netInputShapes] if np.ndim(netInputShapes[0]) == 0 else netInputShapes
        shapes = [tuple(int(size) for size in shape) for shape in given]
        with as_opencv_error():
            graph = self._build(dict(zip(self._inputs.blobs, shapes, strict=False)))
        entries = entries_of(graph)

        def arrays(values: Sequence[str]) -> tuple[Array, ...]:
            return tuple(np.array(graph.shapes[value], np.int32) for value in values)

        inputs = arrays([i.name for i in graph.inputs])
        return (
            np.arange(len(entries) + 1, dtype=np.int32),
            (inputs, *(arrays(entry.node.inputs) for entry in entries)),
            (inputs, *(arrays(entry.outputs) for entry in entries)),
        )

    def getParam(self, layer: int | str, numParam: int = 0) -> FloatArray:
        """A copy of a learned blob of a layer, in Caffe's shape."""
        return self._blobs_with(layer, numParam)[numParam]

    def setParam(self, layer: int | str, numParam: int, blob: Any) -> None:
        """Give a learned blob of a layer other values."""
        blobs = self._blobs_with(layer, numParam)
        blobs[numParam] = np.asarray(blob)
        self.replace_blobs(self._entry(layer), blobs)

    def _blobs_with(self, layer: int | str, number: int) -> list[FloatArray]:
        """The learned blobs of a layer, if it has blob ``number``."""
        blobs = self.learned_blobs(self._entry(layer))
        if not 0 <= number < len(blobs):
            raise OpenCVError(f"layer {layer!r} has {len(blobs)} learned blobs, no {number}.")
        return blobs

    def setPreferableBackend(self, backendId: int) -> None:
        """Ask for a backend of OpenCV; ONNX Runtime, where it is needed, is on the CPU."""
        self._backend = int(backendId)

    def setPreferableTarget(self, targetId: int) -> None:
        """Ask for a target of OpenCV, likewise."""
        self._target = int(targetId)

    def enableFusion(self, fusion: bool) -> None:
        """Accepted: every output that can be asked for is right with and without fusion."""

    def enableWinograd(self, useWinograd: bool) -> None:
        """Accepted; the engines decide for themselves."""

    def getPerfProfile(self) -> tuple[int, Array]:
        """The ticks of the last run, and the ticks of every layer.

        The layers are not timed one by one: the last stands for all.
        """
        timings = np.zeros(len(self._entries), np.float64)
        timings[-1:] = self._ticks
        return self._ticks, timings

    def learned_blobs(self, entry: Entry) -> list[FloatArray]:
        """Copies of the learned blobs of a layer, in Caffe's order and shapes."""
        if self._incomplete:
            raise OpenCVError(str(self._incomplete)) from self._incomplete
        layer, graph = entry.node.layer, self._graph
        params = {own: graph.params[key] for own, key in entry.node.params.items()}
        bottoms = [graph.shapes[value] for value in entry.node.inputs]
        return [np.array(blob) for blob in layer.export_blobs(params, bottoms)] if params else []

    def replace_blobs(self, entry: Entry, blobs: Sequence[Any]) -> None:
        """Give a layer all its learned blobs; each needs the right number of values."""
        layer, graph = entry.node.layer, self._graph
        specs = layer.blob_specs([graph.shapes[value] for value in entry.node.inputs])
        arrays = [np.asarray(blob, np.float32) for blob in blobs]
        if [a.size for a in arrays] != [int(np.prod(spec.shape)) for spec in specs]:
            raise OpenCVError(
                f"layer {entry.name!r} wants the learned blobs {[s.shape for s in specs]}, not "
                f"{[a.shape for a in arrays]}."
            )
        self._replaced[layer.name] = [
            Blob(array.reshape(-1).copy(), spec.shape, False)
            for array, spec in zip(arrays, specs, strict=True)
        ]
        with as_opencv_error():
            self._declare()
        self._lowered.clear()
        self._plans.clear()

    @property
    def _graph(self) -> Graph:
        return self._known()[0]

    @property
    def _entries(self) -> list[Entry]:
        return self._known()[1]

    def _known(self) -> tuple[Graph, list[Entry]]:
        if self._declared is None:
            raise OpenCVError(
                f"the prototxt gives no shape for the input {listed(self._inputs.open())}; call "
                "setInput or setInputShape first."
            )
        return self._declared

    def _declare(self) -> None:
        """Build the graph for the declared sizes, and note which weights it lacks, if any.

        Without a size for each input there is none yet. As in OpenCV the blobs of a layer may
        still be set; forward wants them all.
        """
        if self._inputs.open():
            return
        missing = None
        try:
            graph = self._build({})
        except WeightsError as error:
            graph, missing = self._build({}, allow_missing=True), error
        self._declared, self._incomplete = (graph, entries_of(graph)), missing
        self._inputs.blobs = [i.name for i in graph.inputs]

    def _build(self, shapes: Mapping[str, Shape], allow_missing: bool = False) -> Graph:
        """The graph for input ``shapes``; an input that is not named has its declared one.

        With ``allow_missing`` a layer without weights has some values, so that its place and
        shapes can be told.
        """
        entries = (*self._weights.entries, *self._replaced.items())
        sizes = {**self._inputs.shapes, **shapes}
        options = Options(allow_missing=allow_missing, input_shapes=sizes)
        return build_graph(self._proto, replace(self._weights, entries=entries), options=options)

    def _run(self, outputs: Sequence[tuple[str, ...]], names: Sequence[str]) -> list[Array]:
        """The values of ``outputs``, one for each; ``names`` are the layers', for errors."""
        without = [name for name, values in zip(names, outputs, strict=False) if not values]
        if without or not outputs:
            raise OpenCVError(f"layer {(without or names)[0]!r} has no output.")
        wanted = [values[0] for values in outputs]
        plan = self._plan(tuple(dict.fromkeys(wanted)))
        start = time.perf_counter_ns()
        with as_opencv_error():
            values = plan.run(self._inputs.arrays)
        self._ticks = time.perf_counter_ns() - start
        self._last = plan
        return [values[value] for value in wanted]

    def _plan(self, outputs: tuple[str, ...]) -> Plan:
        from caffe2torch.lower.to_onnx import to_onnx

        shapes = {name: array.shape for name, array in self._inputs.arrays.items()}
        backend, target = self._backend, self._target

        def lower() -> tuple[Graph, OnnxModel]:
            graph = self._build(shapes)
            return graph, to_onnx(graph, static=True)

        def choose() -> Plan:
            lowered = _cached(self._lowered, key, CACHED_GRAPHS, lower)
            return make_plan(*lowered, outputs, self._inputs.arrays, self._wanted, backend, target)

        key = tuple(sorted(shapes.items()))
        with as_opencv_error():
            return _cached(self._plans, (key, outputs, backend, target), CACHED_PLANS, choose)

    def _find(self, layer: int | str) -> Entry | None:
        """A layer by number, by OpenCV's name for it, or by Caffe's."""
        if isinstance(layer, (int, np.integer)):
            return self._entries[layer - 1] if 0 < layer <= len(self._entries) else None
        by_caffe = {entry.node.layer.name: entry for entry in reversed(self._entries)}
        return {**by_caffe, **{entry.name: entry for entry in self._entries}}.get(layer)

    def _entry(self, layer: int | str) -> Entry:
        entry = self._find(layer)
        if entry is None:
            raise OpenCVError(
                f"the net has no layer {layer!r}; getLayerNames() lists those that it has."
            )
        return entry


def _request(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What the arguments of ``forward`` ask for: one blob, all of a layer, or a list."""
    unknown = set(kwargs) - {"outputName", "outBlobNames", "outputBlobs"}
    if unknown or len(args) > 2:
        raise OpenCVError(f"forward: unknown arguments {args!r} {dict(kwargs)!r}.")
    first = args[0] if args else kwargs.get("outBlobNames", kwargs.get("outputName"))
    is_names = isinstance(first, (list, tuple)) and all(isinstance(n, str) for n in first)
    if is_names and len(first):
        return "list", list(first)
    if isinstance(first, str):
        return "one", [first] if first else []
    name = args[1] if len(args) == 2 else kwargs.get("outputName", "")
    if first is None and not name and "outputBlobs" not in kwargs:
        return "one", []
    return "all", [name] if name else []


def _cached(cache: dict[Any, T], key: Any, most: int, make: Callable[[], T]) -> T:
    """The value of ``key``, made if there is none; the ``most`` that were used last are kept."""
    cache[key] = cache.pop(key) if key in cache else make()
    if len(cache) > most:
        del cache[next(iter(cache))]
    return cache[key]
