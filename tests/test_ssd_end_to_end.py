"""The genuine WeChat QR detector (an SSD) and super resolution net, blob by blob."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from support import NEAR_ZERO, assert_close, genuine, recorded, run_onnx

import caffe2torch
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch

DETECT, SUPER_RESOLVE = "detect", "sr"
NETS = {"qr_one": DETECT, "qr_three": DETECT, "qr_perspective": DETECT, "qr_sr": SUPER_RESOLVE}
OF_PEAK = 2e-5
"""Two float32 engines that add a convolution's products in another order."""
OF_SCORES_AND_BOXES = 1e-5
"""Scores and box corners, all about 1, absolute."""


@pytest.fixture(scope="module")
def models():
    return genuine("MODELS", "wechat_qr")


@pytest.fixture(scope="module")
def graphs(models):
    return {
        net: caffe2torch.read(models / f"{net}.caffemodel", models / f"{net}.prototxt")
        for net in (DETECT, SUPER_RESOLVE)
    }


def image(case):
    return recorded(case).inputs["data"]


def run_torch(graph, data):
    with torch.inference_mode():
        return {k: v.numpy() for k, v in to_torch(graph).blobs(torch.from_numpy(data)).items()}


def run_our_onnx(graph, data):
    """Every blob, as onnxruntime computes it."""
    lowered = to_onnx(graph)
    model = complete(lowered)
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(v for n, v in lowered.values.items() if n not in known)
    values = run_onnx(model, {"data": data}) | {"data": data}
    return {blob: values[value] for blob, value in graph.blobs.items()}


ENGINES = {"torch": run_torch, "onnx": run_our_onnx}


def assert_blob(ours, reference, name):
    assert ours.shape == reference.shape, name
    if name == "detection_output":
        np.testing.assert_array_equal(ours[..., :2], reference[..., :2])
        np.testing.assert_allclose(ours, reference, rtol=0, atol=OF_SCORES_AND_BOXES)
    else:
        assert_close(ours, reference, OF_PEAK, absolute=NEAR_ZERO, what=name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", NETS)
def test_agrees_with_genuine_caffe(graphs, engine, case):
    blobs = ENGINES[engine](graphs[NETS[case]], image(case))
    _, outputs, middle = recorded(case)
    references = middle | outputs
    assert references
    for name, reference in references.items():
        assert_blob(blobs[name], reference, name)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_gives_the_rows_of_its_images(graphs, engine):
    cases = ["qr_three", "qr_one", "qr_three"]
    blobs = ENGINES[engine](graphs[DETECT], np.concatenate([image(case) for case in cases]))
    rows = [recorded(case).outputs["detection_output"][0, 0] for case in cases]
    for index, of_image in enumerate(rows):
        of_image[:, 0] = index
    assert_blob(blobs["detection_output"], np.concatenate(rows)[None, None], "detection_output")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_without_a_code_gives_caffes_empty_row(graphs, engine):
    blobs = ENGINES[engine](graphs[DETECT], np.zeros((2, 1, 384, 384), np.float32))
    expected = [[[[0, *[-1] * 6], [1, *[-1] * 6]]]]
    np.testing.assert_array_equal(blobs["detection_output"], expected)


def opencv_blobs(models, net, data):
    """The output of each layer that OpenCV keeps, by the layer's name."""
    engine = cv2.dnn.readNetFromCaffe(
        str(models / f"{net}.prototxt"), str(models / f"{net}.caffemodel")
    )
    engine.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    engine.enableFusion(False)
    engine.enableWinograd(False)
    engine.setInput(data)
    names = [name for name in engine.getLayerNames() if name]
    outputs = dict(zip(names, engine.forward(names), strict=True))
    if "detection_output" in outputs:
        # OpenCV fills the table up with zeros; Caffe has no such rows.
        rows = outputs["detection_output"]
        outputs["detection_output"] = rows[:, :, rows[0, 0].any(1)]
    return outputs


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("net", "case"), [(DETECT, "qr_one"), (DETECT, "qr_perspective"), (SUPER_RESOLVE, "qr_sr")]
)
def test_agrees_with_opencv_on_every_blob(models, graphs, engine, net, case):
    graph, data = graphs[net], image(case)
    ours, theirs = ENGINES[engine](graph, data), opencv_blobs(models, net, data)
    blob_of = {value: blob for blob, value in graph.blobs.items()}
    compared = 0
    for node in graph.nodes:
        blob = blob_of.get(node.outputs[0])
        if blob is not None and node.layer.name in theirs:
            assert_blob(ours[blob], theirs[node.layer.name], blob)
            compared += 1
    assert compared > len(graph.blobs) / 2


def test_another_image_size_agrees_with_opencv(models, graphs):
    data = np.ascontiguousarray(image("qr_one")[:, :, 40:, 60:])
    assert data.shape[2] != data.shape[3]
    ours = run_torch(graphs[DETECT], data)
    theirs = opencv_blobs(models, DETECT, data)
    for name in ("mbox_loc", "mbox_priorbox", "detection_output"):
        assert_blob(ours[name], theirs[name], name)
