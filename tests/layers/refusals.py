"""The error that resolving one layer, or inferring its shapes, raises."""

from __future__ import annotations

import pytest

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.graph import Shape
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import enum_value
from caffe2torch.layers._base import Layer
from caffe2torch.passes.resolve import resolve_layer


def resolved(fields: str, phase: str = "TEST") -> Layer:
    """The layer of a prototxt's ``layer { name: "l" <fields> }``."""
    proto = parse_prototxt(f'layer {{ name: "l" {fields} }}').layer[0]
    proto.phase = enum_value("Phase", phase)
    return resolve_layer(proto)


def refusal(fields: str, *shapes: Shape) -> Caffe2TorchError:
    """What is raised for the layer and bottoms of these shapes."""
    with pytest.raises(Caffe2TorchError) as caught:
        resolved(fields).infer_shapes(shapes)
    return caught.value
