"""What is known of ncnn without it: padding, maxima of many, and the nets that are refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support import CASES, assert_close, recorded, run_onnx

import caffe2torch
from caffe2torch.consumers import consumer
from caffe2torch.consumers._convert import refuse_unread
from caffe2torch.io.arrays import ignore

NCNN = consumer("ncnn")


def written(case: str, path: Path) -> caffe2torch.Graph:
    weights = CASES / case / "net.caffemodel"
    graph = caffe2torch.read(weights if weights.exists() else None, CASES / case / "net.prototxt")
    NCNN.write(graph, path, half=False, durable=False, progress=ignore, **NCNN.form)
    return graph


@pytest.mark.parametrize(
    "case",
    [
        "net_squeezenet_v1_0",
        "eltwise_max4",
        "conv_1x1_s2_p1",
        "pool_max_k3_s2",
        "pool_max_k3_s2_p1",
        "pool_max_k2_s2_p1_clip",
        "pool_ave_k3_s2_ceil",
        "pool_ave_k2_s2_p1_clip",
        "tile_axis1",
        "lrn_within_n3",
    ],
)
def test_what_it_is_given_computes_the_same(case: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    refuse_unread(NCNN, written(case, path), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert all(len(node.input) < 3 for node in model.graph.node if node.op_type == "Max")
    arrays = recorded(case)
    for name, value in run_onnx(model, arrays.inputs).items():
        assert_close(value, arrays.outputs[name])


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("pool_kernel_exceeds_input", "pads that differ"),
        ("pool_max_stride_gt_kernel_empty", "no layer of ncnn's"),
        ("power_cube_negshift", "takes the logarithm"),
        ("threshold", "no layer of ncnn's"),
    ],
)
def test_what_it_does_otherwise_is_refused(case: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    graph = written(case, path)
    with pytest.raises(caffe2torch.ArtefactError, match=cause) as caught:
        refuse_unread(NCNN, graph, path)
    assert caught.value.layer is not None
