"""A net and its weights, from which a graph is built for any input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from caffe2torch.graph import FloatArray, Graph, Shape
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.files import Source
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.passes.blob_source import BlobSource
from caffe2torch.passes.build import build_graph
from caffe2torch.passes.data_layers import inputs_for_data_layers
from caffe2torch.passes.filter_phase import filter_net
from caffe2torch.passes.resolve import resolve
from caffe2torch.passes.upgrade import blob_owner_names, upgrade_net


class Model:
    """What was read of the two files; the net is that of the TEST phase."""

    def __init__(self, prototxt: Source, caffemodel: Source | None) -> None:
        net = upgrade_net(read_prototxt(prototxt))
        self._name = net.name
        self._net = resolve(filter_net(net, "TEST"))
        self._blobs: tuple[tuple[str, Sequence[Blob]], ...] = ()
        self._path, self._given = "", caffemodel is not None
        if caffemodel is not None:
            weights = read_caffemodel(caffemodel)
            self._path = weights.path
            self._blobs = tuple(zip(blob_owner_names(weights.net), weights.blobs, strict=True))
        self._replaced: dict[str, Sequence[Blob]] = {}

    def replace_blobs(self, layer: str, blobs: Sequence[FloatArray]) -> None:
        """Give ``layer`` other learned blobs, as float32 arrays in Caffe's order and shapes."""
        self._replaced[layer] = [Blob(np.array(b).reshape(-1), b.shape, False) for b in blobs]

    def graph(self, shapes: Mapping[str, Shape], allow_missing: bool = False) -> Graph:
        """The graph for input ``shapes``; an input that is not named has its declared one.

        With ``allow_missing`` a layer without weights has some values, so that its place and
        shapes can be told. Raises NetError and WeightsError as ``caffe2torch.read`` does.
        """
        source = BlobSource(self._path, (*self._blobs, *self._replaced.items()), self._given)
        return build_graph(
            inputs_for_data_layers(self._net, source, shapes),
            source,
            name=self._name,
            phase="TEST",
            allow_missing=allow_missing,
        )
