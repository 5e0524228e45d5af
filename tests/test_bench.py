"""The benchmark's nets are those of the papers, and its tables compute what they say."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from benchmark.nets import NETS, write_chain
from benchmark.process import Measured, run
from benchmark.report import beyond_start, tables

import caffe2torch
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.pipeline import build_graph

PARAMETERS = {
    "squeezenet_v1.0": 1_248_424,
    "squeezenet_v1.1": 1_235_496,
    "googlenet": 6_998_552,
    "vgg16": 138_357_544,
    "resnet50": 25_557_032 + 53_120 + 53 + 64,
}
"""Published counts; ResNet's and the running statistics, 53 factors and the bias of conv1."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_nets_have_the_published_size(name: str) -> None:
    graph = build_graph(parse_prototxt(NETS[name](), name))
    count = sum(
        prod(spec.shape)
        for node in graph.nodes
        for spec in node.layer.blob_specs([graph.shapes[value] for value in node.inputs])
    )
    assert count == PARAMETERS[name]


def test_a_chain_of_several_messages_is_one_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.nets.CHAIN_PART", 2)
    monkeypatch.setattr("benchmark.nets.CHAIN_WIDTH", 64)
    path = write_chain(0, tmp_path)
    assert len(caffe2torch.read(path).nodes) == 1
    monkeypatch.setattr("benchmark.nets.CHAIN_WIDTH", 256)
    path = write_chain(1, tmp_path)
    graph = caffe2torch.read(path)
    assert len(graph.nodes) == 4
    assert len(graph.inputs) == 2


def test_tables_give_the_ratio_to_cp() -> None:
    def figures(seconds: float) -> dict[str, float]:
        return {"median_s": seconds, "private_mb": 40.0}

    row = {"bytes": 500_000_000, "cp": figures(0.2)}
    for suffix in ("safetensors", "onnx", "pt"):
        row |= {f"start .{suffix}": figures(0.25), f"convert .{suffix}": figures(0.55)}
    assert beyond_start(row, "onnx") == pytest.approx(0.3)
    text = tables(
        {
            "machine": {"cpu": "x", "cores": 2, "memory_gb": 8, "os": "y"},
            "versions": {"torch": "1"},
            "engines": {},
            "python": "3.11",
            "runs": 5,
            "convert": {"vgg16": row},
            "forward": {"squeezenet x1": {"onnxruntime": 0.01, "caffe2torch": 0.02}},
        }
    )
    assert "0.55 s, 1.5x cp beyond start, 40 MB" in text
    assert "20.0 ms (2.00x)" in text


def test_a_process_is_timed_and_its_memory_seen() -> None:
    measured = Measured()
    run(["python3", "-c", "x = bytearray(50_000_000); import time; time.sleep(0.2)"], measured)
    assert measured.median_s > 0.2
    assert measured.peak_mb is None or 50 < measured.peak_mb < 100


def test_a_failing_command_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="failed"):
        run(["python3", "-c", "raise SystemExit('no')"], Measured())
