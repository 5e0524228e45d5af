"""Net-level ``input``, ``input_shape`` and ``input_dim``, turned into an Input layer."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message, message_class
from caffe2torch.passes._fields import replace_all


def upgrade_input(net: Message) -> None:
    """Put an Input layer named ``input`` with all inputs as tops first, in place.

    ``input_shape`` wins over ``input_dim`` (four numbers an input), and entries beyond the
    number of inputs are ignored. Nets that Caffe saved once listed ``input`` without any
    shape: the Input layer then has none either. Raises NetError if some inputs have a shape
    and others none.
    """
    if net.input:
        layer = message_class("LayerParameter")(name="input", type="Input", top=net.input)
        for shape in _shapes(net):
            layer.input_param.shape.add(dim=shape)
        replace_all(net.layer, [layer, *net.layer])
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)


def _shapes(net: Message) -> list[Sequence[int]]:
    """The shape of each input, none if the net gives no shape at all."""
    dims = net.input_dim
    shapes = [shape.dim for shape in net.input_shape] or [
        dims[start : start + 4] for start in range(0, len(dims) - 3, 4)
    ]
    if (net.input_shape or dims) and len(shapes) < len(net.input):
        raise NetError(
            f"{len(net.input)} inputs ({', '.join(net.input)}) but shapes for {len(shapes)}; "
            "give each one input_shape, or each four input_dim"
        )
    return shapes[: len(net.input)]
