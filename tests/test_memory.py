"""Several passes of one module: what Caffe carries from a pass to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.engines import Job, start_engine
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.memory import remembering
from caffe2torch.lower.to_source import to_source
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.draft import BlobSource
from caffe2torch.pipeline import build_graph

T, N, D, H = 6, 2, 3, 5
RECURRENT = f"""
layer {{ name: "x" type: "Input" top: "x"
  input_param {{ shape {{ dim: {T} dim: {N} dim: {D} }} }} }}
layer {{ name: "c" type: "Input" top: "c" input_param {{ shape {{ dim: {T} dim: {N} }} }} }}
layer {{ name: "l" type: "TYPE" bottom: "x" bottom: "c" top: "y" recurrent_param {{
  num_output: {H} weight_filler {{ type: "constant" value: 0.3 }} }} }}
"""
SOURCE = """
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } }
  blobs { shape { dim: 2 dim: 3 } data: [1, -2, 3, -4, 5, -6] } }
"""
CHANGE = """
layer { name: "twice" type: "Power" bottom: "p" top: "p" power_param { scale: 2 shift: 1 } }
layer { name: "copy" type: "Power" bottom: "p" top: "y" }
"""
START = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)


def graph_of(text: str) -> caffe2torch.Graph:
    return build_graph(parse_prototxt('name: "n" ' + text), BlobSource())


def emitted(graph: caffe2torch.Graph) -> Any:
    scope: dict[str, Any] = {"__file__": "net.py", "__name__": "emitted"}
    exec(compile(to_source(graph), "net.py", "exec"), scope)
    module = scope["N"]()
    module.load_state_dict(to_torch(graph).state_dict())
    return module.eval()


@pytest.fixture(params=["module", "source"])
def run(request: pytest.FixtureRequest) -> Any:
    """Builds a net; the result takes its inputs by position."""

    def build(text: str) -> Any:
        graph = graph_of(text)
        if request.param == "source":
            return emitted(graph)
        module, names = to_torch(graph), [i.name for i in graph.inputs]
        return lambda *inputs: module(dict(zip(names, inputs, strict=True)))

    return build


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_sequence_goes_on_in_the_next_pass(run: Any, kind: str) -> None:
    text = RECURRENT.replace("TYPE", kind)
    x = torch.randn(T, N, D, generator=torch.Generator().manual_seed(1))
    cont = torch.ones(T, N)
    cont[0] = cont[4, 1] = 0
    whole = run(text)(x, cont)
    net = run(text)
    parts = [net(x[:2], cont[:2]), net(x[2:3], cont[2:3]), net(x[3:], cont[3:])]
    torch.testing.assert_close(torch.cat(parts), whole)
    # cont = 0 at the first step forgets it all.
    torch.testing.assert_close(net(x, cont), whole)
    assert not torch.allclose(net(x[:2], cont[2:4]), whole[:2])


def test_a_state_is_forgotten_on_demand_and_by_another_batch() -> None:
    module = to_torch(graph_of(RECURRENT.replace("TYPE", "LSTM")))
    x, ones = torch.ones(T, N, D), torch.ones(T, N)
    first = module({"x": x, "c": ones})
    assert not torch.equal(module({"x": x, "c": ones}), first)
    module.reset_state()
    assert torch.equal(module({"x": x, "c": ones}), first)
    one = module({"x": x[:, :1], "c": ones[:, :1]})
    torch.testing.assert_close(one, first[:, :1])


def test_gradients_end_with_the_pass() -> None:
    module = to_torch(graph_of(RECURRENT.replace("TYPE", "LSTM")))
    earlier, later = (torch.ones(T, N, D, requires_grad=True) for _ in range(2))
    module({"x": earlier, "c": torch.ones(T, N)})
    module({"x": later, "c": torch.ones(T, N)}).sum().backward()
    assert earlier.grad is None
    assert later.grad is not None


def test_a_parameter_changed_in_place_stays_changed(run: Any) -> None:
    net, expected = run(SOURCE + CHANGE), START
    for _ in range(3):
        expected = 2 * expected + 1
        np.testing.assert_array_equal(net().detach().numpy(), expected)


def test_a_parameter_changed_through_a_view_stays_changed(run: Any) -> None:
    view = 'layer { name: "v" type: "Flatten" bottom: "p" top: "v" flatten_param { axis: 0 } }'
    net, expected = run(SOURCE + view + CHANGE.replace('"p"', '"v"')), START.reshape(6)
    for _ in range(3):
        expected = 2 * expected + 1
        np.testing.assert_array_equal(net().detach().numpy(), expected)


def test_dummy_data_changed_in_place_stays_changed(run: Any) -> None:
    source = """
    layer { name: "p" type: "DummyData" top: "q" top: "p" dummy_data_param {
      shape { dim: 2 dim: 3 } data_filler { value: 4 } } }
    layer { name: "z" type: "Silence" bottom: "q" }
    """
    net = run(source + CHANGE)
    for expected in (9, 19, 39):
        assert net().unique().tolist() == [expected]


def test_a_shared_blob_changed_in_place_is_refused() -> None:
    shared = SOURCE.replace("parameter_param", 'param { name: "w" } parameter_param')
    other = shared.replace('"p"', '"q"').partition("blobs")[0] + "}"
    with pytest.raises(caffe2torch.UnsupportedLayerError) as caught:
        to_torch(graph_of(shared + CHANGE + other))
    assert str(caught.value) == (
        "layer 'twice' (Power), top: changes the blob of the layer 'p' in place, which 'q' "
        "shares. Give the layer a top of its own."
    )


def test_onnx_says_that_it_has_no_memory(tmp_path: Path) -> None:
    text = RECURRENT.replace("TYPE", "RNN").replace('"y"', '"z"') + SOURCE + CHANGE
    graph = graph_of(text)
    assert remembering(graph) == ["l", "p"]
    with pytest.warns(caffe2torch.Caffe2TorchWarning, match="layers 'l', 'p', where Caffe goes on"):
        write_graph(graph, tmp_path / "n.onnx")
    write_graph(graph, tmp_path / "n.pt")


def test_each_run_of_the_engine_is_a_first_pass() -> None:
    engine = start_engine("torch", Job(graph_of(SOURCE + CHANGE)))
    first = np.array(engine.run({})["y"])
    np.testing.assert_array_equal(engine.run({})["y"], first)
