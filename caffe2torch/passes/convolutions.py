"""The convolutions of a net in its order: what a Deep Compression file does not say itself."""

from __future__ import annotations

from caffe2torch.errors import WeightsError
from caffe2torch.io.deep_compression import Convolution
from caffe2torch.layers.convolution import Convolution as ConvolutionLayer
from caffe2torch.passes.build import infer_shapes
from caffe2torch.passes.resolve import Resolved


def convolutions(net: Resolved) -> list[Convolution]:
    """Name and weight shape of every layer of the type Convolution.

    Raises WeightsError for one without biases, which the format has no way to leave out, and
    for two of one name, whose weights could not be told apart.
    """
    shapes = infer_shapes(net)
    found: dict[str, Convolution] = {}
    for step in net.steps:
        if type(step.layer) is not ConvolutionLayer:
            continue
        name = step.layer.name
        if not step.layer.bias_term:
            raise _refused("a convolution of a Deep Compression file has biases", name, "bias_term")
        if name in found:
            raise _refused("two convolutions have this name; rename one in the prototxt", name)
        weight, _ = step.layer.blob_specs([shapes[value] for value in step.inputs])
        found[name] = Convolution(name, tuple(weight.shape))
    return list(found.values())


def _refused(cause: str, name: str, field: str | None = None) -> WeightsError:
    return WeightsError(cause, layer=name, type=ConvolutionLayer.type, field=field)
