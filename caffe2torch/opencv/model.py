"""A net and its weights, from which a graph is built for any input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from caffe2torch.graph import FloatArray, Graph, Shape
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.files import Source
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.passes.draft import Options
from caffe2torch.pipeline import blob_source, build_graph


class Model:
    """What was read of the two files; the net is that of the TEST phase."""

    def __init__(self, prototxt: Source, caffemodel: Source | None) -> None:
        self._net = read_prototxt(prototxt)
        self._weights = blob_source(None if caffemodel is None else read_caffemodel(caffemodel))
        self._replaced: dict[str, Sequence[Blob]] = {}

    def replace_blobs(self, layer: str, blobs: Sequence[FloatArray]) -> None:
        """Give ``layer`` other learned blobs, as float32 arrays in Caffe's order and shapes."""
        self._replaced[layer] = [Blob(np.array(b).reshape(-1), b.shape, False) for b in blobs]

    def graph(self, shapes: Mapping[str, Shape], allow_missing: bool = False) -> Graph:
        """The graph for input ``shapes``; an input that is not named has its declared one.

        With ``allow_missing`` a layer without weights has some values, so that its place and
        shapes can be told. Raises NetError and WeightsError as ``caffe2torch.read`` does.
        """
        entries = (*self._weights.entries, *self._replaced.items())
        weights = replace(self._weights, entries=entries)
        options = Options(allow_missing=allow_missing, input_shapes=shapes)
        return build_graph(self._net, weights, options=options)
