"""Options of an .onnx file: its opset, its batch, no open sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from support import (
    CASES,
    NEAR_ZERO,
    OF_NET,
    assert_close,
    genuine,
    genuine_squeezenet,
    onnx_session,
    recorded,
    run_onnx,
)

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.cli import main
from caffe2torch.lower.opset import OLDEST
from caffe2torch.lower.to_onnx import OPSET, complete, to_onnx

OPSETS = range(OLDEST, onnx.defs.onnx_opset_version() + 1)
EVERY_FORM = (
    "net_squeezenet_v1_0",
    "net_lstm_captioning",
    "bn_batch_stats_test",
    "euclidean_loss",
    "ssd_det_eta",
    "ssd_mini_ssd",
    "ssd_normalize_default",
    "argmax_ties",
)
"""Recorded nets with what some opset writes otherwise: reductions, sizes, parts."""


def graph_of(name: str) -> caffe2torch.Graph:
    folder = CASES / name
    weights = folder / "net.caffemodel"
    return caffe2torch.read(weights if weights.exists() else None, folder / "net.prototxt")


@pytest.fixture(scope="module")
def graphs() -> dict[str, caffe2torch.Graph]:
    return {name: graph_of(name) for name in EVERY_FORM if (CASES / name).exists()}


@pytest.mark.parametrize("opset", OPSETS)
def test_each_opset_runs(opset: int, graphs: dict[str, caffe2torch.Graph]) -> None:
    assert len(graphs) > 5
    for name, graph in graphs.items():
        model = complete(to_onnx(graph, opset=opset))
        assert model.opset_import[0].version == opset
        record = recorded(name)
        for blob, value in zip(graph.outputs, run_onnx(model, record.inputs).values(), strict=True):
            expected = record.outputs[blob]
            assert_close(value, expected, OF_NET, absolute=NEAR_ZERO, what=f"{name} {blob}")


@pytest.mark.parametrize("opset", OPSETS)
def test_genuine_nets_in_each_opset(opset: int, tmp_path: Path) -> None:
    squeezenet = genuine_squeezenet("1.0")
    detector = genuine("MODELS", "wechat_qr", "detect.caffemodel")
    image = recorded("qr_one").inputs["data"]
    rng = np.random.default_rng(4)
    feeds = {
        squeezenet: (squeezenet.with_name("deploy.prototxt"), rng.normal(0, 60, (1, 3, 227, 227))),
        detector: (detector.with_suffix(".prototxt"), image),
    }
    for weights, (net, x) in feeds.items():
        results = []
        for number in (OPSET, opset):
            path = caffe2torch.convert(weights, tmp_path / f"{number}.onnx", net, opset=number)
            results.append(run_onnx(path, x.astype(np.float32)))
        (expected,), (actual,) = (list(values.values()) for values in results)
        assert_close(actual, expected, OF_NET)


def sizes(path: Path) -> list[Any]:
    session = onnx_session(path)
    return [value.shape for value in (*session.get_inputs(), *session.get_outputs())]


def test_batch_and_static(tmp_path: Path) -> None:
    folder, x = CASES / "net_squeezenet_v1_0", recorded("net_squeezenet_v1_0").inputs["data"]
    expected = run_onnx(complete(to_onnx(graph_of("net_squeezenet_v1_0"))), x)
    (name,) = expected
    for options, batch in (({"batch": 3}, 3), ({"static": True}, len(x)), ({}, "N")):
        path = tmp_path / f"{batch}.onnx"
        net = folder / "net.prototxt"
        caffe2torch.convert(folder / "net.caffemodel", path, net, **options)  # type: ignore[arg-type]
        assert [shape[0] for shape in sizes(path)] == [batch, batch]
        given = np.concatenate([x] * 3)[: batch if isinstance(batch, int) else len(x)]
        value = run_onnx(path, given)[name]
        assert len(value) == len(given)
        assert_close(value[:1], expected[name][:1], OF_NET)


def test_fixed_rows_take_no_nodes_of_open_sizes(tmp_path: Path) -> None:
    graph = graph_of("ssd_mini_ssd")
    write_graph(graph, tmp_path / "net.onnx", durable=False, fixed_rows=True)
    model = onnx.load(tmp_path / "net.onnx")
    assert not {node.op_type for node in model.graph.node} & {"NonZero", "NonMaxSuppression"}
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [1, 1, 20, 7]


def test_a_static_file_computes_no_sizes() -> None:
    model = to_onnx(graph_of("ssd_mini_ssd"), static=True).skeleton
    free = {"Shape", "Range"} & {node.op_type for node in model.graph.node}
    # (How many boxes there are is known when it has run.)
    assert free <= {"Shape"}
    assert sum(node.op_type == "Shape" for node in model.graph.node) <= 1


def test_the_record_has_the_batch(tmp_path: Path) -> None:
    folder, path = CASES / "net_squeezenet_v1_0", tmp_path / "n.onnx"
    caffe2torch.convert(folder / "net.caffemodel", path, folder / "net.prototxt", batch=5)
    (record,) = [e.value for e in onnx.load(path).metadata_props if e.key == "caffe2torch"]
    assert '"inputs": {"data": [5, 3, ' in record
    assert "dim: 5" in record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["o.onnx", "--opset", "99"], "opset 99 is not between 13 and"),
        (["o.pt", "--opset", "15"], "a .pt file has no 'opset'; it is an option for .onnx"),
        (["o.py", "--batch", "2"], "a .py file has no 'batch'"),
        (["o.safetensors", "--static"], "a .safetensors file has no 'static'"),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = CASES / "net_squeezenet_v1_0"
    files = [folder / "net.caffemodel", "--prototxt", folder / "net.prototxt"]
    result = CliRunner().invoke(main, ["convert", *map(str, files), *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_a_batch_that_a_layer_fixes() -> None:
    with pytest.raises(caffe2torch.ArtefactError, match="takes no batch of 7"):
        to_onnx(graph_of("lstm_basic"), batch=7)


def test_an_operator_that_an_opset_lacks() -> None:
    text = """layer { name: "i" type: "Input" top: "x" input_param { shape {
        dim: 2 dim: 3 dim: 5 dim: 7 } } }
    layer { name: "t" type: "Input" top: "theta" input_param { shape { dim: 2 dim: 6 } } }
    layer { name: "s" type: "SpatialTransformer" bottom: "x" bottom: "theta" top: "y" }"""
    graph = caffe2torch.read(None, text.encode())
    with pytest.raises(
        caffe2torch.ArtefactError,
        match="opset 15 cannot say what GridSample does at 's/GridSample'",
    ):
        to_onnx(graph, opset=15)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    theta = np.tile(np.array([0.8, 0.1, 0.2, -0.1, 0.9, 0.3], np.float32), (2, 1))
    first, *others = (
        run_onnx(complete(to_onnx(graph, opset=n)), {"x": x, "theta": theta})["y"]
        for n in (16, 17, 20, 22)
    )
    for other in others:
        assert_close(other, first, OF_NET)
