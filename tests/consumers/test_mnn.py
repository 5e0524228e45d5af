"""What is known of MNN without it: convolutions over one axis, and the nets that are refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support import CASES, assert_close, recorded, run_onnx

import caffe2torch
from caffe2torch.consumers import consumer
from caffe2torch.consumers._convert import refuse_unread
from caffe2torch.io.arrays import ignore


def written(case: str, path: Path, name: str = "mnn") -> caffe2torch.Graph:
    """The case as it is written for the consumer."""
    weights = CASES / case / "net.caffemodel"
    graph = caffe2torch.read(weights if weights.exists() else None, CASES / case / "net.prototxt")
    chosen = consumer(name)
    chosen.write(graph, path, half=False, durable=False, progress=ignore, **chosen.form)
    return graph


@pytest.mark.parametrize("case", ["conv_1d", "deconv_1d"])
def test_convolutions_are_over_two_axes(case: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    refuse_unread(consumer("mnn"), written(case, path), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    kernels = [a.ints for n in model.graph.node for a in n.attribute if a.name == "kernel_shape"]
    assert [len(kernel) for kernel in kernels] == [2]
    arrays = recorded(case)
    for name, value in run_onnx(model, arrays.inputs).items():
        assert_close(value, arrays.outputs[name])


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("pool_max_mask", "its indices are wrong"),
        ("pool_max_stride_gt_kernel_empty", "a window without pixels"),
        ("pool_max_k3_s2_p1", None),
    ],
)
def test_pooling_that_it_does_otherwise(case: str, cause: str | None, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    graph = written(case, path)
    if cause is None:
        refuse_unread(consumer("mnn"), graph, path)
        return
    with pytest.raises(caffe2torch.ArtefactError, match=cause) as caught:
        refuse_unread(consumer("mnn"), graph, path)
    assert caught.value.layer == "pool1"
