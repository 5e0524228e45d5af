"""The stand-in for OpenCV's Caffe reader, against that reader where the installed OpenCV has it."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import CASES, OF_NET, assert_close, genuine, recorded

import caffe2torch
from caffe2torch.errors import EngineError
from caffe2torch.opencv import Net, OpenCVError, readNetFromCaffe
from caffe2torch.opencv.plan import Plan, difference, refusal

needs_reader = pytest.mark.skipif(
    not hasattr(cv2.dnn, "readNetFromCaffe"), reason="the installed OpenCV has no Caffe reader"
)
FILES = {
    "squeezenet_v1.0": ("deploy.prototxt", "squeezenet_v1.0.caffemodel", (1, 3, 227, 227)),
    "squeezenet_v1.1": ("deploy.prototxt", "squeezenet_v1.1.caffemodel", (1, 3, 227, 227)),
    "sr": ("sr.prototxt", "sr.caffemodel", (1, 1, 40, 56)),
    "detect": ("detect.prototxt", "detect.caffemodel", (1, 1, 160, 224)),
}
SAME = ("conv_hw", "fanout_three", "names_weird", "inplace_chain", "slice_points", "multi_io",
        "shared_params_conv", "conv_two_bottoms", "net_unet", "net_resnet_block", "silence",
        "net_squeezenet_v1_0", "net_squeezenet_complex_bypass", "pool_max_mask")  # fmt: skip
"""Nets that OpenCV 4.14 computes as Caffe does, with names of every kind."""


def genuine_net(name: str) -> tuple[str, str, tuple[int, ...]]:
    folder = genuine("MODELS", name if name.startswith("squeezenet") else "wechat_qr")
    prototxt, weights, shape = FILES[name]
    return str(folder / prototxt), str(folder / weights), shape


def case_files(name: str) -> tuple[str, str]:
    weights = json.loads((CASES / name / "case.json").read_text())["weights_file"]
    return str(CASES / name / "net.prototxt"), str(CASES / name / weights) if weights else ""


def both(files: tuple[str, str]) -> tuple[Any, Net]:
    return cv2.dnn.readNetFromCaffe(*files), readNetFromCaffe(*files)


def image(shape: tuple[int, ...], seed: int = 0) -> Any:
    scale = 50 if shape[1] == 3 else 1
    return np.random.default_rng(seed).uniform(0, scale, shape).astype(np.float32)


def feed(net: Any, name: str) -> dict[str, Any]:
    inputs, outputs, _ = recorded(name)
    for blob, value in inputs.items():
        net.setInput(value, blob)
    return outputs


close = partial(assert_close, of_peak=OF_NET)


@needs_reader
@pytest.mark.parametrize("name", ["squeezenet_v1.0", "squeezenet_v1.1", "sr"])
def test_genuine_nets_agree(name: str) -> None:
    *files, shape = genuine_net(name)
    theirs, ours = both((files[0], files[1]))
    assert ours.getLayerNames() == theirs.getLayerNames()
    assert ours.getUnconnectedOutLayersNames() == theirs.getUnconnectedOutLayersNames()
    other = (2, *shape[1:2], shape[2] - 20, shape[3] + 10)
    for size in (shape, other):
        for net in (theirs, ours):
            net.setInput(image(size))
        close(ours.forward(), theirs.forward())
        names = [theirs.getLayerNames()[i] for i in (0, 2, -2)]
        for value, expected in zip(ours.forward(names), theirs.forward(names), strict=True):
            close(value, expected)
    assert ours.engine == "opencv"


@needs_reader
def test_the_detector_finds_the_same_boxes() -> None:
    *files, shape = genuine_net("detect")
    theirs, ours = both((files[0], files[1]))
    assert ours.getLayerNames() == theirs.getLayerNames()
    noise = image(shape)
    for net in (theirs, ours):
        net.setInput(noise)
    found, expected = ours.forward(), theirs.forward()
    assert ours.engine == "onnxruntime"
    expected = expected[:, :, expected[0, 0, :, 2] > 0]  # OpenCV fills up with rows of zeros.
    assert found.shape[2] > 0
    close(found, expected)


@needs_reader
@pytest.mark.parametrize("name", SAME)
def test_nets_of_the_corpus_agree(name: str) -> None:
    theirs, ours = both(case_files(name))
    assert ours.getLayerNames() == theirs.getLayerNames()
    assert ours.getUnconnectedOutLayersNames() == theirs.getUnconnectedOutLayersNames()
    assert list(ours.getUnconnectedOutLayers()) == list(theirs.getUnconnectedOutLayers())
    assert ours.getUnconnectedOutLayers().dtype == theirs.getUnconnectedOutLayers().dtype
    assert ours.getLayerTypes() == theirs.getLayerTypes()
    feed(theirs, name)
    feed(ours, name)
    if ours.getLayerNames()[-1:] != ("silence",):
        close(ours.forward(), theirs.forward())
    for layer in ours.getLayerNames():
        assert ours.getLayerId(layer) == theirs.getLayerId(layer)
        assert ours.getLayer(layer).type == theirs.getLayer(layer).type


@pytest.mark.parametrize(
    "name", ["ssd_mini_ssd", "net_lstm_captioning", "deconv_dilation2", "reduction_default",
             "argmax_axis1", "mvn_2d_across", "bn_batch_stats_test"]
)  # fmt: skip
def test_what_opencv_gets_wrong_is_right(name: str) -> None:
    net = readNetFromCaffe(*case_files(name))
    expected = feed(net, name)
    for layer in net.getUnconnectedOutLayersNames():
        close(net.forward(layer), expected[blob_of(name, layer)])


def graph_of(case: str) -> caffe2torch.Graph:
    prototxt, weights = case_files(case)
    with warnings.catch_warnings():
        # Unused weights are the point of some nets.
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        return caffe2torch.read(weights or None, prototxt)


def blob_of(case: str, layer: str) -> str:
    graph = graph_of(case)
    (node,) = (n for n in graph.nodes if layer in (n.layer.name, n.outputs[0]))
    return next(blob for blob, value in graph.blobs.items() if value == node.outputs[0])


@pytest.mark.slow
def test_every_net_of_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = 0
    for path in sorted(CASES.glob("*/case.json")):
        case = json.loads(path.read_text())
        own = not str(case["weights_file"]).startswith("..")
        usual = case["phase"] == "TEST" and not case["level"] and not case["stages"]
        if case["expect"] != "ok" or not own or not usual or "missing" in case["name"]:
            continue
        monkeypatch.chdir(path.parent)  # Where a file that the net names lies.
        net = readNetFromCaffe(*case_files(path.parent.name))
        expected = feed(net, path.parent.name)
        graph = graph_of(path.parent.name)
        for node in graph.nodes:
            shown = [b for b in expected if graph.blobs[b] in node.outputs]
            if shown:
                (values,) = net.forwardAndRetrieve([node.layer.name])
                for blob in shown:
                    value = dict(zip(node.outputs, values, strict=False)).get(graph.blobs[blob])
                    if value is not None:
                        close(value, expected[blob])
                        ran += 1
    assert ran > 300


@pytest.mark.parametrize("engine", ["opencv", "onnxruntime"])
def test_both_engines_compute_a_net(engine: str) -> None:
    net = readNetFromCaffe(*case_files("net_squeezenet_v1_1"), engine=engine)
    expected = feed(net, "net_squeezenet_v1_1")
    close(net.forward(), next(iter(expected.values())))
    assert net.engine == engine


@pytest.mark.parametrize("case", ["ssd_mini_ssd", "ssd_det_corner_size", "ssd_det_eta"])
def test_every_image_has_its_own_number_of_boxes(case: str) -> None:
    """OpenCV 5.0 keeps the number of its first run."""
    nets = [readNetFromCaffe(*case_files(case), engine=engine) for engine in (None, "onnxruntime")]
    inputs, _, _ = recorded(case)
    counts = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        for blob, value in inputs.items():
            fed = rng.permutation(value.reshape(-1)).reshape(value.shape) * (seed + 1)
            for net in nets:
                net.setInput(fed, blob)
        found, right = (net.forward() for net in nets)
        close(found, right)
        counts.add(len(right[0, 0]))
    assert nets[0].engine == ("onnxruntime" if hasattr(cv2.dnn, "readNetFromCaffe") else "opencv")
    assert len(counts) > 1 or case != "ssd_det_eta"


def test_insisting_on_opencv_is_refused_with_the_reason() -> None:
    net = readNetFromCaffe(*case_files("reduction_default"), engine="opencv")  # A scalar.
    feed(net, "reduction_default")
    with pytest.raises(OpenCVError, match="OpenCV does not run this net rightly: "):
        net.forward()


def test_a_later_failure_of_opencv_is_its_error() -> None:
    class Failing:
        def run(self, inputs: Any) -> Any:
            raise EngineError("out of memory")

    with pytest.raises(cv2.error, match="OpenCV cannot run the net: out of memory"):
        Plan((), "opencv", Failing()).run({})


def test_a_wrong_opencv_is_found_out() -> None:
    class Wrong:
        def run(self, inputs: Any) -> Any:
            return {"y": inputs["x"] * np.float32(1.001)}

    class Right:
        def run(self, inputs: Any) -> Any:
            return {"y": inputs["x"]}

    x = {"x": np.float32([[0, 1, 2]])}
    assert "differs by" in str(refusal(Wrong(), Right(), x, 1e-4))
    assert refusal(Wrong(), Right(), x, 1e-2) is None
    assert "shape" in str(difference(np.zeros((2, 1)), np.zeros(2), 1.0))
    assert difference(np.float32([np.nan]), np.float32([1.0]), 1.0) is not None


def test_buffers_and_keywords() -> None:
    prototxt, weights = case_files("conv_hw")
    net, model = Path(prototxt).read_bytes(), Path(weights).read_bytes()
    values = []
    for read in (
        readNetFromCaffe(prototxt, weights),
        readNetFromCaffe(prototxt=Path(prototxt), caffeModel=Path(weights)),
        readNetFromCaffe(net, model),
        readNetFromCaffe(bytearray(net), list(model)),
        readNetFromCaffe(
            bufferProto=np.frombuffer(net, np.uint8), bufferModel=np.frombuffer(model, np.uint8)
        ),
    ):
        feed(read, "conv_hw")
        values.append(read.forward())
    assert all(np.array_equal(value, values[0]) for value in values)
    assert not readNetFromCaffe(prototxt, weights).empty()


@needs_reader
@pytest.mark.parametrize("mean", [(), 5, (1, 2, 3), (1, 2, 3, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_scale_and_mean_of_an_input(mean: Any, dtype: Any) -> None:
    theirs, ours = both(case_files("net_squeezenet_v1_1"))
    with np.load(CASES / "net_squeezenet_v1_1" / "io.npz") as file:
        shape = file["in/data"].shape
    blob = np.random.default_rng(1).integers(0, 255, shape).astype(dtype)
    for net in (theirs, ours):
        net.setInput(blob, "data", scalefactor=0.5, mean=mean)
    close(ours.forward("conv1"), theirs.forward("conv1"))


@needs_reader
def test_a_pipeline_with_blob_from_image() -> None:
    theirs, ours = both(case_files("net_squeezenet_v1_1"))
    pixels = np.random.default_rng(2).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    blob = cv2.dnn.blobFromImage(pixels, 1.0, (64, 64), (104, 117, 123))
    for net in (theirs, ours):
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        net.enableFusion(True)
        net.setInput(blob)
    close(ours.forward(), theirs.forward())
    ticks, timings = ours.getPerfProfile()
    assert ticks > 0
    assert timings.sum() == ticks
    assert len(timings) == len(ours.getLayerNames())


def test_forms_of_forward() -> None:
    net = readNetFromCaffe(*case_files("slice_points"))
    feed(net, "slice_points")
    layer = net.getLayerNames()[-1]
    first = net.forward()
    assert np.array_equal(net.forward(layer), first)
    assert np.array_equal(net.forward(outputName=layer), first)
    (listed,) = net.forward([layer])
    assert np.array_equal(listed, first)
    (named,) = net.forward(outBlobNames=[layer])
    assert np.array_equal(named, first)
    every = net.forward(None, layer)
    (retrieved,) = net.forwardAndRetrieve([layer])
    assert len(every) == len(retrieved) == 3
    assert all(np.array_equal(a, b) for a, b in zip(every, retrieved, strict=True))


@needs_reader
def test_learned_blobs_can_be_read_and_set() -> None:
    theirs, ours = both(case_files("net_squeezenet_v1_1"))
    assert np.array_equal(ours.getParam("conv1"), theirs.getParam("conv1"))
    for net in (theirs, ours):
        feed(net, "net_squeezenet_v1_1")
        net.forward()
        net.setParam("conv1", 1, net.getParam("conv1", 1) + np.float32(2))
        feed(net, "net_squeezenet_v1_1")
    close(ours.forward("conv1"), theirs.forward("conv1"))
    weight, bias = ours.getLayer(ours.getLayerId("conv1")).blobs
    ours.getLayer("conv1").blobs = [weight * 0, bias * 0 + 3]
    assert (ours.forward("conv1") == 3).all()
    with pytest.raises(OpenCVError, match="wants the learned blobs"):
        ours.getLayer("conv1").blobs = [bias]


def test_missing_weights_can_be_set_before_the_run() -> None:
    prototxt, _ = case_files("ip_2d")
    net = readNetFromCaffe(prototxt)
    feed(net, "ip_2d")
    with pytest.raises(OpenCVError, match="no weights are given"):
        net.forward()
    with pytest.raises(OpenCVError, match="no weights are given"):
        net.getParam(1)
    full = readNetFromCaffe(*case_files("ip_2d"))
    expected = next(iter(feed(full, "ip_2d").values()))
    net.getLayer(1).blobs = list(full.getLayer(1).blobs)
    close(net.forward(), expected)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda n: n.forward(), "'data' is not set; call setInput"),
        (lambda n: n.setInput(np.zeros((1, 3, 8, 8)), "nope"), "has no input 'nope'"),
        (lambda n: n.setInput(np.zeros(0)), "is no blob of numbers"),
        (lambda n: n.setInput(np.zeros((1, 5, 4, 4)), "", 1, 7), "at most 4 channels"),
        (lambda n: n.forward("nope"), "has no layer 'nope'"),
        (lambda n: n.getLayer(99), "has no layer 99"),
        (lambda n: n.getParam("conv1", 5), "has 2 learned blobs, no 5"),
        (lambda n: (n.setInput(np.zeros((1, 7, 64, 64))), n.forward()), "layer 'conv1'"),
        (lambda n: n.forward(output="x"), "unknown arguments"),
    ],
)
def test_errors_are_both_opencvs_and_ours(use: Any, message: str) -> None:
    net = readNetFromCaffe(*case_files("net_squeezenet_v1_1"))
    with pytest.raises(cv2.error, match=message) as caught:
        use(net)
    assert isinstance(caught.value, caffe2torch.Caffe2TorchError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prototxt": "nope.prototxt"}, "there is no such file"),
        ({"prototxt": b"layer {"}, "the buffer:1"),
        ({"prototxt": 3}, "neither a path nor a buffer"),
        ({"prototxt": [300]}, "neither a path nor a buffer"),
        ({}, "needs the argument 'prototxt'"),
        ({"prototxt": b"name: 'x'", "engine": "cuda"}, "engine 'cuda' is none of"),
    ],
)
def test_files_that_cannot_be_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(cv2.error, match=message):
        readNetFromCaffe(**arguments)


def test_numbers_and_names_of_layers() -> None:
    net = readNetFromCaffe(*case_files("names_weird"))
    assert net.getLayerId("_input") == 0
    assert net.getLayerId("nope") == -1
    assert net.getLayer(0).outputNameToIndex("data") == 0
    assert net.getLayer(0).outputNameToIndex("nope") == -1
    # A convolution has the name of its top, and is found by its own as well.
    assert net.getLayerNames()[0] == "conv1/3x3"
    assert net.getLayerId("conv1/3x3.s1-a b") == 1
    assert net.getLayersCount("Convolution") == sum(
        net.getLayer(i + 1).type == "Convolution" for i in range(len(net.getLayerNames()))
    )
