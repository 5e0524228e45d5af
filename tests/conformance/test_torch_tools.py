"""Modules as torch's own tools take them: calls, copies, traces, export, compilation."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from golden import Case, table
from support import CASE_NAMES, CASES, recorded
from torch import Tensor, nn

import caffe2torch
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_torch import CaffeModule, to_torch
from caffe2torch.passes.draft import State
from caffe2torch.pipeline import build_graph

TRACING = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning"
)
"""What torch.jit.trace warns of: that it is old, and sizes that become constants."""
SAME = 1e-5
"""Of the peak: a tool may run the same operators in another order."""
NO_FX = {
    "conv_kernel_exceeds_padded_input": "it pads by a size that a symbolic trace does not have",
    "names_weird": "torch.fx cannot write a submodule that is named by a word of Python",
}
"""Recorded nets that torch.fx.symbolic_trace does not take, and why."""


def net(name: str) -> tuple[CaffeModule, dict[str, Tensor]]:
    graph, record = Case(CASES / name).read(), recorded(name)
    return to_torch(graph), {i.name: torch.from_numpy(record.inputs[i.name]) for i in graph.inputs}


def built(text: str, **shapes: tuple[int, ...]) -> CaffeModule:
    for name, shape in shapes.items():
        dims = "".join(f"dim: {size} " for size in shape)
        text = f"""layer {{ name: "{name}" type: "Input" top: "{name.replace("__", "/")}"
            input_param {{ shape {{ {dims} }} }} }}\n{text}"""
    return to_torch(build_graph(parse_prototxt(text, "net"), None, State("TEST")))


def tensors(value: Any) -> list[Tensor]:
    return list(value.values()) if isinstance(value, dict) else [value]


def assert_same(actual: Any, expected: Any) -> None:
    for mine, other in zip(tensors(actual), tensors(expected), strict=True):
        usual = other.isfinite() & (other.abs() < torch.finfo(torch.float32).max)
        peak = float(other[usual].abs().max().detach()) if usual.any() else 0.0
        torch.testing.assert_close(mine, other, rtol=0, atol=SAME * peak, equal_nan=True)


def difference(actual: Any, expected: Any) -> Iterator[str]:
    try:
        assert_same(actual, expected)
    except AssertionError as error:
        yield str(error).strip().splitlines()[0]


SUM = """layer { name: "s" type: "Eltwise" bottom: "a" bottom: "b/c" top: "y"
    eltwise_param { coeff: 1 coeff: -1 } }"""


def test_inputs_by_position_by_name_and_as_a_dict() -> None:
    module = built(SUM, b__c=(2, 3), a=(2, 3))
    assert module.input_names == ("a", "b/c")
    assert list(inspect.signature(module.forward).parameters) == ["a", "b_c"]
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    for given in (
        module(a, b),
        module(a=a, b_c=b),
        module(a, b_c=b),
        module({"b/c": b, "a": a}),
        caffe2torch.optimize(module)(a, b_c=b),
    ):
        assert torch.equal(given, a - b)
    assert torch.equal(module.blobs(a, b)["y"], a - b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m(x), "the input 'b/c' is missing"),
        (lambda m, x: m(b_c=x), "the input 'a' is missing"),
        (lambda m, x: m({"a": x}), "the input 'b/c' is missing"),
        (lambda m, x: m({"a": x, "b/c": x, "d": x}), "the input 'd' is unknown"),
        (lambda m, x: m.blobs(x, x, x), "3 inputs are given; the net's inputs are a, b/c"),
        (lambda m, x: m(x[0], x), "the input 'a' has the shape"),
    ],
)
def test_calls_that_do_not_fit(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(caffe2torch.NetError, match=message):
        call(built(SUM, b__c=(2, 3), a=(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: saved(m)],
    ids=["deepcopy", "pickle", "torch.save"],
)
@pytest.mark.parametrize("prepared", [lambda m: m, caffe2torch.optimize])
def test_copies(copied: Callable[..., Any], prepared: Callable[..., Any]) -> None:
    module, inputs = net("net_squeezenet_v1_0")
    module = prepared(module)
    other = copied(module)
    assert type(other) is type(module)
    with torch.no_grad():
        assert_same(other(*inputs.values()), module(inputs))


def saved(module: CaffeModule) -> Any:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def each(what: Callable[[CaffeModule, tuple[Tensor, ...]], Any]) -> dict[str, list[str]]:
    """What ``what`` makes wrong of the recorded nets."""
    found = {}
    for name in CASE_NAMES:
        if Case(CASES / name).refused_by_caffe:
            continue
        module, inputs = net(name)
        given = tuple(inputs.values())
        if not given or not module.output_names:
            continue
        with torch.no_grad():
            expected = net(name)[0](*given)
            try:
                found[name] = list(difference(what(module, given), expected))
            except Exception as error:  # Whatever a tool raises.
                found[name] = [f"{type(error).__name__}: {error}".splitlines()[0]]
    return {name: lines for name, lines in found.items() if lines}


def test_symbolic_traces_of_the_recorded_nets() -> None:
    found = each(lambda module, given: torch.fx.symbolic_trace(module)(*given))
    assert found.keys() == NO_FX.keys(), table(found)


@TRACING
def test_traces_of_the_recorded_nets() -> None:
    found = each(
        lambda module, given: torch.jit.trace(module, given, strict=False, check_trace=False)(
            *given
        )
    )
    assert not found, table(found)


@pytest.mark.parametrize("name", ["net_squeezenet_v1_0", "ssd_mini_ssd"])
def test_tools_take_an_optimised_module(name: str) -> None:
    module, inputs = net(name)
    given, expected = tuple(inputs.values()), module(inputs)
    fast = caffe2torch.optimize(module)
    with torch.no_grad():
        assert_same(torch.fx.symbolic_trace(fast)(*given), expected)
        assert_same(torch.export.export(fast, given, strict=True).module()(*given), expected)


def test_a_symbolic_trace_is_of_layers() -> None:
    module, inputs = net("net_squeezenet_v1_0")
    traced = torch.fx.symbolic_trace(module)
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    convolutions = {k for k, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert convolutions <= called
    assert [n.target for n in traced.graph.nodes if n.op == "placeholder"] == ["data"]
    larger = torch.cat([*inputs.values()] * 3)
    with torch.no_grad():
        assert_same(traced(larger), module(larger))


def scaled(inputs: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Inputs that give a detector other scores, but for its priors."""
    rng = np.random.default_rng(2)
    for scale in (1.0, 0.7, 0.4, 0.0):
        yield {
            k: v if "prior" in k else v * torch.from_numpy(rng.uniform(0, scale, v.shape)).float()
            for k, v in inputs.items()
        }


@TRACING
@pytest.mark.parametrize("name", ["ssd_det_center_size", "ssd_det_eta", "ssd_det_keep_top_k"])
def test_a_trace_of_a_detector_finds_as_many_boxes_as_there_are(name: str) -> None:
    module, inputs = net(name)
    traced = torch.jit.trace(module, tuple(inputs.values()), check_trace=False)
    counts = set()
    for given in scaled(inputs):
        expected = module(given)
        assert_same(traced(*given.values()), expected)
        counts.add(expected.shape[2])
    assert len(counts) > 1


@TRACING
def test_a_trace_that_would_keep_the_boxes_of_its_example_is_refused() -> None:
    module = built(
        """layer { name: "p" type: "Proposal" bottom: "s" bottom: "d" bottom: "i" top: "y"
        proposal_param { ratio: 1 scale: 8 } }""",
        i=(1, 3),
        d=(1, 4, 5, 7),
        s=(1, 2, 5, 7),
    )
    given = torch.randn(1, 2, 5, 7), torch.zeros(1, 4, 5, 7), torch.tensor([[80.0, 112.0, 1.0]])
    with pytest.raises(RuntimeError, match="would keep the boxes"):
        torch.jit.trace(module, given)


EXPORTED = (
    "net_squeezenet_v1_0",
    "net_unet",
    "net_siamese",
    "lstm_basic",
    "rnn_static",
    "pool_mask_ties",
)


@pytest.mark.parametrize("name", EXPORTED)
def test_strict_export(name: str) -> None:
    module, inputs = net(name)
    expected = net(name)[0](inputs)
    module(inputs)  # What a layer remembers of a pass is no part of the program.
    program = torch.export.export(module, tuple(inputs.values()), strict=True)
    for _ in range(2):
        assert_same(program.module()(*inputs.values()), expected)
    assert all(type(state) is Tensor for m in module.modules() for state in getattr(m, "state", ()))


def test_an_export_of_any_batch_names_its_input() -> None:
    module, inputs = net("net_squeezenet_v1_0")
    two = torch.cat([inputs["data"], inputs["data"] / 2])[:2]
    batch = {"data": {0: torch.export.Dim.DYNAMIC}}  # type: ignore[attr-defined]
    program = torch.export.export(module, (), {"data": two}, dynamic_shapes=batch, strict=True)
    five = torch.cat([two, two * 2, two[:1]])
    with torch.no_grad():
        assert_same(program.module()(data=five), module(five))


@pytest.mark.parametrize("name", ["ssd_det_eta", "ssd_det_center_size"])
def test_an_export_of_a_detector_finds_as_many_boxes_as_there_are(name: str) -> None:
    module, inputs = net(name)
    with torch.no_grad():
        program = torch.export.export(module, tuple(inputs.values()), strict=True).module()
        counts = set()
        for given in scaled(inputs):
            expected = module(given)
            assert_same(program(*given.values()), expected)
            counts.add(expected.shape[2])
    assert len(counts) > 1


@pytest.mark.parametrize("name", ["net_squeezenet_v1_0", "lstm_expose_hidden"])
def test_compiles_without_graph_breaks(name: str) -> None:
    module, inputs = net(name)
    with torch.no_grad():
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        assert_same(compiled(*inputs.values()), module(inputs))


def test_a_detector_compiles() -> None:
    module, inputs = net("ssd_mini_ssd")
    with torch.no_grad():
        assert_same(torch.compile(module, backend="eager")(*inputs.values()), module(inputs))


@pytest.mark.parametrize("name", ["net_squeezenet_v1_0", "lstm_expose_hidden", "ssd_mini_ssd"])
def test_data_parallel_by_processes(name: str, tmp_path: Any) -> None:
    module, inputs = net(name)
    expected = module(inputs)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    try:
        parallel = nn.parallel.DistributedDataParallel(module)
        given = parallel(*inputs.values())
        assert_same(given, expected)
        loss = sum(value.square().sum() for value in tensors(given) if value.requires_grad)
        if isinstance(loss, Tensor):
            loss.backward()
            assert any(p.grad is not None for p in module.parameters())
    finally:
        torch.distributed.destroy_process_group()


QUANTISED = 1e-2
"""Of the peak: 8-bit weights are off by up to 2^-8 (4e-3) of a channel's largest."""


@pytest.mark.filterwarnings("ignore")  # torchao warns of what it was compiled without.
@pytest.mark.parametrize(
    ("name", "matrices"),
    [("net_lstm_captioning", 2), ("net_vgg_block", 2), ("net_squeezenet_v1_0", 0)],
)
def test_torchao_quantises_inner_products(name: str, matrices: int) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    module, inputs = net(name)
    expected = net(name)[0](inputs)
    quantization.quantize_(module, quantization.Int8WeightOnlyConfig())
    changed = [
        m
        for m in module.modules()
        if isinstance(m, nn.Linear) and type(m.weight) is not nn.Parameter
    ]
    assert len(changed) == matrices
    with torch.no_grad():
        for found, right in zip(tensors(module(inputs)), tensors(expected), strict=True):
            apart = (found - right).abs().max()
            assert (apart > 0) == bool(matrices)
            assert apart <= QUANTISED * right.abs().max()
