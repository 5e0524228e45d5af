"""What Caffe's library itself has of ``caffe.Net``: a net of one phase on blobs (_caffe.cpp)."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

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

if TYPE_CHECKING:
    from typing_extensions import Self

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


class CoreNet:
    """A net that runs layer by layer; ``Net`` is what programs see of it."""

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
    def _of(cls, definition: Message, state: State, folder: Path | None) -> Self:
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
    def layers(self) -> LayerVec:
        """The layers in order."""
        return LayerVec(map(_shown, self._steps))

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
        tops = [top for s in self._steps if s.type == "Input" for top in s.tops]
        return IntVec(map(self._blob_names.index, self._names_of(tops)))

    @property
    def _outputs(self) -> IntVec:
        return IntVec(map(self._blob_names.index, self._running.outputs))

    def _bottom_ids(self, layer: int) -> IntVec:
        return IntVec(map(self._index_of, self._steps[layer].bottoms))

    def _top_ids(self, layer: int) -> IntVec:
        return IntVec(map(self._index_of, self._steps[layer].tops))

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

    def share_with(self, other: CoreNet) -> None:
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
