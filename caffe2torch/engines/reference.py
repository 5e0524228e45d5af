"""Recorded outputs of Caffe, which stand for an engine in a comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from caffe2torch.engines import Blobs, PathLike
from caffe2torch.errors import ParityError

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Graph, Shape

REFERENCE = "reference"
"""The name under which a record is compared. It is not registered: it runs no net."""


class ReferenceEngine:
    """Recorded outputs of Caffe: an npz with a key for each blob, in the order of the inputs.

    Keys are blob names, or ``model/blob``; ``model`` is matched against the name of the file
    where several models are recorded.
    """

    def __init__(self, path: PathLike, graph: Graph, model: str | None) -> None:
        from caffe2torch.io.npz import read_npz

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
        from caffe2torch.lower.batch import fed_shapes

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
