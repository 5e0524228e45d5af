"""What TVM is given: detections that are marked by ones of their own."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support import CASES, assert_close, recorded, run_onnx

import caffe2torch
from caffe2torch.consumers import consumer
from caffe2torch.consumers._convert import refuse_unread
from caffe2torch.io.arrays import ignore

TVM = consumer("tvm")


def written(case: str, path: Path) -> caffe2torch.Graph:
    graph = caffe2torch.read(None, CASES / case / "net.prototxt")
    TVM.write(graph, path, half=False, durable=False, progress=ignore, **TVM.form)
    return graph


@pytest.mark.parametrize("case", ["ssd_det_center_size", "ssd_det_none", "ssd_det_eta"])
def test_detections(case: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    refuse_unread(TVM, written(case, path), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    makers = {node.output[0]: node.op_type for node in model.graph.node}
    marks = [makers[n.input[2]] for n in model.graph.node if n.op_type == "ScatterND"]
    assert set(marks) == {"Cast"}
    arrays = recorded(case)
    for name, value in run_onnx(model, arrays.inputs).items():
        assert_close(value, arrays.outputs[name])


def test_indices_of_maxima_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    graph = written("pool_max_mask", path)
    with pytest.raises(caffe2torch.ArtefactError, match="no indices of maxima"):
        refuse_unread(TVM, graph, path)
