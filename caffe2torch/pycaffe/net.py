"""``caffe.Net``: a net of one phase that runs layer by layer on blobs (net.cpp, pycaffe.py)."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import Message
from caffe2torch.passes.draft import State
from caffe2torch.pycaffe import files, mode
from caffe2torch.pycaffe.blob import CPU, Blob, BlobVec, DtypeVec, IntVec, LayerVec, StringVec
from caffe2torch.pycaffe.build import build
from caffe2torch.pycaffe.layer import BuiltIn, Layer, PythonLayerError, python_layers
from caffe2torch.pycaffe.memory_data import set_input_arrays
from caffe2torch.pycaffe.steps import PythonStep, Step
from caffe2torch.training.net import open_net

Array = npt.NDArray[Any]
Arrays = dict[str, Any]
Callback = Callable[..., object]

PHASES = ("TRAIN", "TEST")
"""Caffe's phases, at their numbers."""


@contextmanager
def aborting() -> Iterator[None]:
    """Where Caffe ends the process, raise RuntimeError that says why in one line."""
    try:
        yield
    except PythonLayerError as error:
        raise error.kind(str(error)) from None
    except Caffe2TorchError as error:
        raise RuntimeError(str(error)) from error


class Net:
    """A net that runs.

    Made by ``Net(network_file, phase, level=0, stages=None, weights=None)``, or in the old way
    by ``Net(network_file, weights_file, phase)``.

    Raises:
        TypeError: arguments that fit neither form; paths are str or bytes.
        RuntimeError: a file is missing, or Caffe would refuse the net or its weights.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        if len(arguments) == 3 and not keywords and isinstance(arguments[1], (str, bytes)):
            network, weights, phase = arguments
            level, stages = 0, None
        else:
            network, phase, level, stages, weights = _new_form(*arguments, **keywords)
        path = _path(network, "network_file")
        if type(phase) not in (int, bool) or type(level) not in (int, bool):
            raise TypeError(f"phase and level are whole numbers, not {phase!r} and {level!r}")
        stages = () if stages is None else tuple(stages)
        if not all(isinstance(stage, str) for stage in stages):
            raise TypeError(f"stages are names, not {stages!r}")
        files.require(path, *([] if weights is None else [_path(weights, "weights")]))
        if phase not in (0, 1):
            raise RuntimeError(f"{phase} is no phase; caffe.TRAIN is 0 and caffe.TEST is 1")
        with aborting():
            definition = read_prototxt(path)
        self._start(definition, State(PHASES[phase], level, stages), Path(path).parent)
        if weights is not None:
            self.copy_from(_path(weights, "weights"))

    @classmethod
    def _of(cls, definition: Message, state: State, folder: Path | None) -> Net:
        """The net of a solver."""
        net = cls.__new__(cls)
        net._start(definition, state, folder)
        return net

    def _start(self, definition: Message, state: State, folder: Path | None) -> None:
        with aborting(), python_layers():
            running = open_net(definition, state, folder=folder, seed=mode.next_seed(), splits=True)
            self._steps, self._named = build(running)
        # The arrays are the blobs' now.
        self._running = replace(running, graph=replace(running.graph, params={}))
        self._device = CPU
        self._callbacks: dict[str, list[Callback]] = {}
        self._blobs_by_name = OrderedDict(self._named)
        self._places = {id(blob): i for i, (_, blob) in reversed([*enumerate(self._named)])}
        own = {step.name: step.blobs for step in self._steps if step.blobs}
        self._params = OrderedDict(own)

    @property
    def blobs(self) -> OrderedDict[str, Blob]:
        """The blobs by name, those of the Splits that Caffe inserts included."""
        return self._blobs_by_name

    @property
    def params(self) -> OrderedDict[str, BlobVec]:
        """The learned blobs by the name of their layer."""
        return self._params

    @property
    def layers(self) -> LayerVec:
        """The layers in order."""
        return LayerVec(map(_shown, self._steps))

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """The layers by name."""
        return OrderedDict((step.name, _shown(step)) for step in self._steps)

    @property
    def inputs(self) -> list[str]:
        """The tops of Input layers."""
        return [name for name, _ in self._inputs_named()]

    @property
    def outputs(self) -> list[str]:
        """The blobs that no layer reads, in Caffe's order."""
        return list(self._running.outputs)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """The names of each layer's tops."""
        return OrderedDict((s.name, self._names_of(s.tops)) for s in self._steps)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """The names of each layer's bottoms."""
        return OrderedDict((s.name, self._names_of(s.bottoms)) for s in self._steps)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """The weight of each blob in the loss."""
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights, strict=True))

    @property
    def _layer_names(self) -> StringVec:
        return StringVec(step.name for step in self._steps)

    @property
    def _blob_names(self) -> StringVec:
        return StringVec(name for name, _ in self._named)

    @property
    def _blobs(self) -> BlobVec:
        return BlobVec(blob for _, blob in self._named)

    @property
    def _blob_loss_weights(self) -> DtypeVec:
        weights = {
            id(top): weight
            for step in self._steps
            for top, weight in zip(step.tops, step.weights, strict=True)
        }
        return DtypeVec(weights.get(id(blob), 0.0) for _, blob in self._named)

    @property
    def _inputs(self) -> IntVec:
        return IntVec(map(self._blob_names.index, self.inputs))

    @property
    def _outputs(self) -> IntVec:
        return IntVec(map(self._blob_names.index, self.outputs))

    def _bottom_ids(self, layer: int) -> IntVec:
        return IntVec(map(self._index_of, self._steps[layer].bottoms))

    def _top_ids(self, layer: int) -> IntVec:
        return IntVec(map(self._index_of, self._steps[layer].tops))

    def forward(
        self, blobs: Any = None, start: str | None = None, end: str | None = None, **inputs: Array
    ) -> Arrays:
        """Run the layers from ``start`` to ``end``, the last included; all by default.

        ``inputs`` are written to the net's inputs first, all of them or none. What is returned
        are the net's outputs, or the tops of ``end``, and ``blobs``, as live arrays by name.

        Raises:
            Exception: not all inputs are given, or one has another batch size than its blob.
            ValueError: an unknown layer, or an array that does not fit.
            KeyError: an unknown blob.
        """
        names = self._layer_names
        first = names.index(start) if start is not None else 0
        last = names.index(end) if end is not None else len(names) - 1
        shown = self.outputs if end is None else self.top_names[end]
        wanted = set(shown + (blobs or []))
        if inputs:
            if set(inputs) != set(self.inputs):
                raise Exception(_differs("forward takes all inputs or none", self.inputs, inputs))
            self._fill(inputs, "data")
        self._forward(first, last)
        return {name: self.blobs[name].data for name in wanted}

    def backward(
        self, diffs: Any = None, start: str | None = None, end: str | None = None, **tops: Array
    ) -> Arrays:
        """Run the layers from ``start`` down to ``end``, both included; all by default.

        ``tops`` are written to the diffs of the net's outputs first, all of them or none. What is
        returned are the diffs of the net's inputs, or of the bottoms of ``end``, and of
        ``diffs``, as live arrays by name. Diffs of learned blobs add up. Raises as ``forward``.
        """
        names = self._layer_names
        first = names.index(start) if start is not None else len(names) - 1
        last = names.index(end) if end is not None else 0
        shown = self.inputs if end is None else self.bottom_names[end]
        wanted = set(shown + (diffs or []))
        if tops:
            if set(tops) != set(self.outputs):
                raise Exception(_differs("backward takes all tops or none", self.outputs, tops))
            self._fill(tops, "diff")
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in wanted}

    def forward_all(self, blobs: Any = None, **inputs: Array) -> Arrays:
        """Run as many batches as ``inputs`` need; return new arrays of their length.

        The batch size is that of the net's first blob; the last batch ends in zeros.
        """
        collected: dict[str, list[Any]] = {n: [] for n in {*self.outputs, *(blobs or [])}}
        batch: dict[str, Any]
        for batch in self._batches(inputs):
            for name, values in self.forward(blobs=blobs, **batch).items():
                collected[name].extend(values.copy())
        return _without_padding(collected, inputs)

    def forward_backward_all(
        self, blobs: Any = None, diffs: Any = None, **inputs_and_tops: Array
    ) -> tuple[Arrays, Arrays]:
        """Run forward and backward on as many batches as the arrays need.

        Arrays named as outputs are diffs of tops, the others inputs. What is returned are the
        arrays of ``forward_all``, and the same of the inputs' diffs and of ``diffs``.
        """
        outputs = self.outputs
        inputs = {k: v for k, v in inputs_and_tops.items() if k in self.inputs}
        tops = {k: v for k, v in inputs_and_tops.items() if k in outputs}
        if len(inputs) + len(tops) < len(inputs_and_tops):
            both = [*self.inputs, *outputs]
            raise Exception(_differs("inputs and outputs", both, inputs_and_tops))
        batch: dict[str, Any]
        top: dict[str, Any]
        data: dict[str, list[Any]] = {n: [] for n in {*outputs, *(blobs or [])}}
        gradients: dict[str, list[Any]] = {n: [] for n in {*self.inputs, *(diffs or [])}}
        for batch, top in zip_longest(self._batches(inputs), self._batches(tops), fillvalue={}):
            for name, values in self.forward(blobs=blobs, **batch).items():
                data[name].extend(values.copy())
            for name, values in self.backward(diffs=diffs, **top).items():
                gradients[name].extend(values.copy())
        return _without_padding(data, inputs), _without_padding(gradients, inputs)

    def reshape(self) -> None:
        """Have the shapes of all blobs follow from those of the inputs."""
        with aborting():
            for step in self._steps:
                step.reshape()

    def copy_from(self, path: Any) -> None:
        """Take the learned blobs of a caffemodel or HDF5 file, by the names of the layers."""
        with aborting():
            files.copy_weights(_path(path, "the file"), self._steps)

    load_hdf5 = copy_from

    def save(self, path: Any) -> None:
        """Write the net with its learned blobs to a binary caffemodel."""
        with aborting():
            files.save_binary(_path(path, "the file"), self._running.graph.name, self._steps)

    def save_hdf5(self, path: Any) -> None:
        """Write the learned blobs to an HDF5 file."""
        with aborting():
            files.save_hdf5(_path(path, "the file"), self._steps)

    def share_with(self, other: Net) -> None:
        """Use the memory of the learned blobs of ``other``, where layers have the same name."""
        own = {step.name: step for step in reversed(self._steps)}
        for step in other._steps:
            target = own.get(step.name)
            if target is None:
                continue
            if [b._shape for b in target.blobs] != [b._shape for b in step.blobs]:
                raise RuntimeError(f"layer {step.name!r}: the nets have blobs of other shapes")
            for blob, source in zip(target.blobs, step.blobs, strict=True):
                blob._data = source._data

    def clear_param_diffs(self) -> None:
        """Set the diffs of all learned blobs to 0."""
        for step in self._steps:
            for blob in step.blobs:
                blob._diff.tensor.zero_()

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Have the MemoryData layer that the net begins with feed these arrays, in place.

        Raises RuntimeError for arrays that do not fit it: both are float32 and contiguous,
        (N, C, H, W) with as many labels, and N is a multiple of the batch size.
        """
        set_input_arrays(self._steps, data, labels)

    def before_forward(self, callback: Callback) -> None:
        """Call ``callback(layer_index)`` before each layer's forward."""
        self._callbacks.setdefault("before_forward", []).append(callback)

    def after_forward(self, callback: Callback) -> None:
        """Call ``callback(layer_index)`` after each layer's forward."""
        self._callbacks.setdefault("after_forward", []).append(callback)

    def before_backward(self, callback: Callback) -> None:
        """Call ``callback(layer_index)`` before each layer's backward."""
        self._callbacks.setdefault("before_backward", []).append(callback)

    def after_backward(self, callback: Callback | None = None) -> None:
        """Call ``callback(layer_index)`` after each layer's backward."""
        if callback is not None:
            self._callbacks.setdefault("after_backward", []).append(callback)

    def _forward(self, first: int, last: int) -> float:
        self._check_range(first, last)
        if self._device != mode.device():
            self._device = mode.device()
            self._running.module.to(self._device)
            for step in self._steps:
                step.moved()
        loss = 0.0
        with aborting():
            for index in range(first, last + 1):
                self._call("before_forward", index)
                step = self._steps[index]
                step.forward()
                loss += step.loss()
                self._call("after_forward", index)
        return loss

    def _backward(self, first: int, last: int) -> None:
        self._check_range(last, first)
        with aborting():
            for index in range(first, last - 1, -1):
                self._call("before_backward", index)
                if self._steps[index].needs.layer:
                    self._steps[index].backward()
                self._call("after_backward", index)

    def _call(self, event: str, index: int) -> None:
        for callback in self._callbacks.get(event, ()):
            callback(index)

    def _check_range(self, low: int, high: int) -> None:
        if low < 0 or high >= len(self._steps):
            raise RuntimeError(f"the layers are 0 to {len(self._steps) - 1}, not {low} to {high}")

    def _fill(self, arrays: Mapping[str, Array], what: str) -> None:
        for name, array in arrays.items():
            blob = self.blobs[name]
            if array.shape[0] != blob._shape[0]:
                raise Exception(
                    f"{name!r} has the batch size {blob._shape[0]}, the array {array.shape[0]}"
                )
            getattr(blob, what)[...] = array

    def _batches(self, arrays: Mapping[str, Array]) -> Iterator[dict[str, Any]]:
        """``arrays`` in batches, the last filled up with zeros; without any, one of none."""
        if not arrays:
            yield {}
            return
        size = self._named[0][1]._shape[0]
        for first in range(0, len(next(iter(arrays.values()))), size):
            batch = {name: np.asarray(a)[first : first + size] for name, a in arrays.items()}
            yield {name: _padded(values, size) for name, values in batch.items()}

    def _batch(self, blobs: Mapping[str, Array]) -> Iterator[dict[str, Any]]:
        if not blobs:
            raise RuntimeError("there are no arrays to cut into batches")
        return self._batches(blobs)

    def _inputs_named(self) -> Sequence[tuple[str, Blob]]:
        tops = [top for s in self._steps if s.type == "Input" for top in s.tops]
        return list(zip(self._names_of(tops), tops, strict=True))

    def _index_of(self, blob: Blob) -> int:
        return self._places[id(blob)]

    def _names_of(self, blobs: Sequence[Blob]) -> list[str]:
        return [self._named[self._index_of(blob)][0] for blob in blobs]

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise RuntimeError("a Net cannot be pickled or copied; save its weights")


def _new_form(
    network_file: Any, phase: Any, level: Any = 0, stages: Any = None, weights: Any = None
) -> tuple[Any, ...]:
    return network_file, phase, level, stages, weights


def _path(path: Any, what: str) -> str:
    if not isinstance(path, (str, bytes)):
        raise TypeError(f"{what} is a path as str or bytes, not {path!r}")
    return os.fsdecode(path)


def _shown(step: Step) -> Layer:
    if isinstance(step, PythonStep):
        return step.instance
    return BuiltIn(step.type, step.blobs, step.proto.phase)


def _differs(what: str, known: Sequence[str], given: Mapping[str, Any]) -> str:
    return f"{what}: the net's are {', '.join(known) or 'none'}, not {', '.join(given)}"


def _padded(values: Array, size: int) -> Array:
    missing = np.zeros((size - len(values), *values.shape[1:]))
    return np.concatenate([values, missing]) if len(missing) else values


def _without_padding(collected: Mapping[str, list[Any]], inputs: Mapping[str, Array]) -> Arrays:
    count = len(next(iter(inputs.values()))) if inputs else None
    return {name: np.asarray(values[:count]) for name, values in collected.items()}
