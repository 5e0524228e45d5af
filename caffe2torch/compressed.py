"""Deep Compression files: the convolutions that such a file holds, and the net it is of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from caffe2torch import extensions
from caffe2torch.errors import ReadError, WeightsError
from caffe2torch.graph import Graph
from caffe2torch.io.deep_compression import Convolution, fits
from caffe2torch.io.files import Source
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers.convolution import Convolution as ConvolutionLayer
from caffe2torch.pipeline import build_graph


def convolution_shapes(graph: Graph) -> list[Convolution]:
    """Name and weight shape of every layer of the type Convolution.

    Raises WeightsError for one without biases, which the format has no way to leave out, and
    for two of one name, whose weights could not be told apart.
    """
    found: dict[str, Convolution] = {}
    for node in graph.nodes:
        if type(node.layer) is not ConvolutionLayer:
            continue
        name = node.layer.name
        if not node.layer.bias_term:
            raise _refused("a convolution of a Deep Compression file has biases", name, "bias_term")
        if name in found:
            raise _refused("two convolutions have this name; rename one in the prototxt", name)
        weight, _ = node.layer.blob_specs([graph.shapes[value] for value in node.inputs])
        found[name] = Convolution(name, tuple(weight.shape))
    return list(found.values())


def _refused(cause: str, name: str, field: str | None = None) -> WeightsError:
    return WeightsError(cause, layer=name, type=ConvolutionLayer.type, field=field)


def net_of_compressed(model: str | os.PathLike[str]) -> Source:
    """The prototxt beside a Deep Compression file, else that of the known net that it fits."""
    beside = Path(model).with_suffix(".prototxt")
    if beside.is_file():
        return beside
    known: list[str] = []
    for group in extensions.names(extensions.NETS):
        nets: Mapping[str, str] = extensions.load(extensions.NETS, group)()
        for name, text in nets.items():
            if fits(model, convolution_shapes(build_graph(parse_prototxt(text)))):
                return text.encode()
            known.append(name)
    raise ReadError(
        f"{os.fspath(model)}: does not say which net it holds, and it is none of those that are "
        f"known ({', '.join(known)}). Give its prototxt (--prototxt), or put it there as {beside}."
    )
