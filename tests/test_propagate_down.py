"""``propagate_down: false``: no gradient goes through a bottom, in the module and in its source."""

from typing import Any

import pytest
import torch

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_source import to_source
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.draft import BlobSource, Options
from caffe2torch.pipeline import build_graph

NET = """
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 5
  weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 5
  weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum"
  propagate_down: false propagate_down: true }
layer { name: "tanh" type: "TanH" bottom: "sum" top: "sum" propagate_down: FLAG }
"""


def gradients(net: torch.nn.Module) -> dict[str, bool]:
    """Which arrays a gradient reaches."""
    output = net(torch.linspace(-1, 1, 6).reshape(2, 3))
    if output.requires_grad:
        output.sum().backward()
    return {name: bool(p.grad is not None and p.grad.any()) for name, p in net.named_parameters()}


@pytest.mark.parametrize("flag", [True, False])
def test_no_gradient_goes_through(flag: bool) -> None:
    text = 'name: "n" ' + NET.replace("FLAG", str(flag).lower())
    graph = build_graph(parse_prototxt(text), BlobSource(), options=Options(allow_missing=True))
    module = to_torch(graph)
    found = gradients(module)
    # What goes around b ends at the sum.
    assert found["a.weight"] == found["b.weight"] == flag
    scope: dict[str, Any] = {"__file__": "net.py", "__name__": "emitted"}
    exec(compile(to_source(graph), "net.py", "exec"), scope)
    source = scope["N"]()
    source.load_state_dict(module.state_dict())
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    assert torch.equal(source(x), module(x))
    assert gradients(source) == found
    for name, parameter in source.named_parameters():
        if flag:
            torch.testing.assert_close(parameter.grad, module.get_parameter(name).grad)
