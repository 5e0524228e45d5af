"""``caffe.Net``: a net of one phase, its blobs and passes by name (net.cpp, pycaffe.py)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.pycaffe.blob import Blob, BlobVec
from caffe2torch.pycaffe.core_net import CoreNet
from caffe2torch.pycaffe.layer import Layer

Array = npt.NDArray[Any]
Arrays = dict[str, Any]


class Net(CoreNet):
    """A net that runs.

    Made by ``Net(network_file, phase, level=0, stages=None, weights=None)``, or in the old way
    by ``Net(network_file, weights_file, phase)``.

    Raises:
        TypeError: arguments that fit neither form; paths are str or bytes.
        RuntimeError: a file is missing, or Caffe would refuse the net or its weights.
    """

    @property
    def blobs(self) -> OrderedDict[str, Blob]:
        """The blobs by name, those of the Splits that Caffe inserts included."""
        return self._blobs_by_name

    @property
    def params(self) -> OrderedDict[str, BlobVec]:
        """The learned blobs by the name of their layer."""
        return self._params

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """The layers by name."""
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def inputs(self) -> list[str]:
        """The tops of Input layers."""
        return [self._blob_names[i] for i in self._inputs]

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


def _differs(what: str, known: Sequence[str], given: Mapping[str, Any]) -> str:
    return f"{what}: the net's are {', '.join(known) or 'none'}, not {', '.join(given)}"


def _padded(values: Array, size: int) -> Array:
    missing = np.zeros((size - len(values), *values.shape[1:]))
    return np.concatenate([values, missing]) if len(missing) else values


def _without_padding(collected: Mapping[str, list[Any]], inputs: Mapping[str, Array]) -> Arrays:
    count = len(next(iter(inputs.values()))) if inputs else None
    return {name: np.asarray(values[:count]) for name, values in collected.items()}
