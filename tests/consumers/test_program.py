"""The ONNX form as a torch module, which converters of torch modules are given."""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path

import onnx
import pytest
import torch
from running.nets import without_spare_rows
from support import CASE_NAMES, CASES, NEAR_ZERO, OF_NET, assert_close, recorded

import caffe2torch
from caffe2torch.consumers import _registry, consumer
from caffe2torch.consumers._convert import convert_for
from caffe2torch.consumers._program import OnnxModule, form_of, program_of, write_translated
from caffe2torch.graph import Graph
from caffe2torch.layers._boxes_onnx import MOST_IN_TURN
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch

DATA_DEPENDENT = ["filter_two"]
"""Nets with layers whose outputs have as many rows as the data says, and no form with fewer."""


def read(name: str) -> Graph | None:
    """The case, if it has outputs and needs no genuine weights."""
    case = json.loads((CASES / name / "case.json").read_text())
    if case["expect"] != "ok" or "wechat_qr" in (case["weights_file"] or ""):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        return caffe2torch.read(
            case["weights_file"],
            "net.prototxt",
            phase=case["phase"],
            level=case["level"],
            stages=case["stages"],
            allow_missing=True,
        )


def test_it_computes_what_caffe_did(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, refused, count = {}, [], 0
    for name in CASE_NAMES:
        monkeypatch.chdir(CASES / name)
        graph = read(name)
        if graph is None or not graph.outputs:
            continue
        try:
            arrays, litert = recorded(name), consumer("litert")
            module, _ = program_of(form_of(litert, graph))
            inputs = [torch.from_numpy(arrays.inputs[i.name].copy()) for i in graph.inputs]
            with torch.no_grad():
                found = module(*inputs)
            for blob, value in zip(graph.outputs, found, strict=True):
                expected = arrays.outputs[blob]
                given = without_spare_rows(graph, {blob: value.numpy()})[blob]
                assert_close(given, expected, OF_NET, absolute=NEAR_ZERO, what=blob)
            count += 1
        except caffe2torch.UnsupportedLayerError:
            refused.append(name)
        except (AssertionError, RuntimeError) as error:
            failed[name] = str(error)
    assert not failed
    assert refused == DATA_DEPENDENT
    assert count > 330


def test_a_convolution_transposed_in_groups_and_steps() -> None:
    net = b"""
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 7 } } }
    layer { name: "d" type: "Deconvolution" bottom: "x" top: "y" convolution_param {
      num_output: 6 group: 2 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 dilation: 2
      weight_filler { type: "xavier" } bias_filler { type: "uniform" min: -1 max: 1 } } }"""
    with pytest.warns(caffe2torch.Caffe2TorchWarning):
        graph = caffe2torch.read(None, net, allow_missing=True)
    x = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    module = OnnxModule(complete(to_onnx(graph, static=True)))
    with torch.no_grad():
        (value,) = module(x)
        assert_close(value.numpy(), to_torch(graph)(x).numpy(), absolute=NEAR_ZERO)


@pytest.mark.parametrize("name", ["litert", "coreml"])
def test_a_net_of_sizes_that_depend_on_data_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder, output = CASES / "filter_two", tmp_path / f"net{consumer(name).suffix}"
    with pytest.raises(caffe2torch.UnsupportedLayerError, match="depends on the data") as caught:
        convert_for(name, None, output, prototxt=folder / "net.prototxt")
    assert caught.value.type == "Filter"
    assert os.listdir(tmp_path) == []


def test_more_boxes_than_are_compared_in_turn_are_refused_by_name() -> None:
    count = MOST_IN_TURN + 1
    net = f"""
    layer {{ name: "x" type: "Input" top: "loc" top: "conf" top: "prior" input_param {{
      shape {{ dim: 1 dim: {4 * count} }} shape {{ dim: 1 dim: {2 * count} }}
      shape {{ dim: 1 dim: 2 dim: {4 * count} }} }} }}
    layer {{ name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "y"
      detection_output_param {{ num_classes: 2 nms_param {{ top_k: TOP_K }} }} }}"""
    graph = caffe2torch.read(None, net.replace("TOP_K", str(count)).encode())
    with pytest.raises(
        caffe2torch.UnsupportedLayerError, match=rf"{count} boxes .*top_k"
    ) as caught:
        form_of(consumer("litert"), graph)
    assert caught.value.layer == "d"
    form_of(consumer("litert"), caffe2torch.read(None, net.replace("TOP_K", "30").encode()))


BROKEN = """
import os, signal
from caffe2torch.consumers import Consumer, register_consumer

@register_consumer("broken")
class Broken(Consumer):
    title, suffix, packages = "Broken", ".broken", ("numpy==1",)

    def translate(self, model, output):
        {body}
"""


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ('raise NotImplementedError("no prod")', "no prod"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process ended with code -11"),
        ("output.write_bytes(model.read_bytes())", None),
    ],
)
def test_a_converter_that_raises_or_crashes_is_an_error(
    body: str, cause: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffe2torch.consumers._registry", dict(_registry))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_consumer", raising=False)
    (tmp_path / "broken_consumer.py").write_text(BROKEN.format(body=body))
    import_module("broken_consumer")
    output = tmp_path / "net.broken"
    graph = caffe2torch.read(prototxt=CASES / "relu" / "net.prototxt")
    if cause is None:
        write_translated(consumer("broken"), graph, output)
        onnx.load(output, load_external_data=False)
        return
    with pytest.raises(
        caffe2torch.ArtefactError, match=f"numpy==1 does not convert this net for Broken: {cause}"
    ):
        write_translated(consumer("broken"), graph, output)
    assert not output.exists()


@pytest.mark.parametrize("name", ["litert", "coreml"])
def test_options_of_onnx_files_are_refused(name: str, tmp_path: Path) -> None:
    output, net = tmp_path / f"net{consumer(name).suffix}", CASES / "relu" / "net.prototxt"
    with pytest.raises(caffe2torch.ArtefactError, match=r"--opset is for \.onnx files"):
        convert_for(name, None, output, prototxt=net, opset=18)
