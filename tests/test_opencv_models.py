"""``readNet``, the inputs of a net and the classes from image to answer, against OpenCV 4's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import OF_NET, assert_close
from test_opencv_dropin import case_files, genuine_net, needs_reader

from caffe2torch import opencv
from caffe2torch.opencv import OpenCVError, readNet, readNetFromCaffe

close = partial(assert_close, of_peak=OF_NET)

POOLING = 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { %s } }'
HALVED = POOLING % "kernel_size: 2 stride: 2"
SIZED = 'input: "data" input_shape { dim: 1 dim: 3 dim: 32 dim: 40 } ' + HALVED
OPEN = ('input: "data" ' + HALVED,
        'layer { name: "in" type: "Input" top: "data" } ' + HALVED)  # fmt: skip
FLAT = (
    ' layer { name: "g" type: "Pooling" bottom: "p" top: "g" pooling_param { kernel_h: 16 '
    'kernel_w: 4 stride: 4 } } layer { name: "r" type: "Reshape" bottom: "g" top: "r" '
    "reshape_param { shape { dim: 1 dim: 5 dim: 3 } } }"
)


def net_of(prototxt: str) -> Any:
    return readNetFromCaffe(prototxt.encode())


def theirs_of(prototxt: str) -> Any:
    return cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt.encode(), np.uint8))


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> Any:
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, channels), np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.reshape((height, width, channels) if channels > 1 else (height, width))


@pytest.mark.parametrize("prototxt", OPEN, ids=["input", "Input layer"])
def test_inputs_without_a_shape_take_that_of_the_blob(prototxt: str) -> None:
    blob = np.random.default_rng(0).standard_normal((1, 3, 8, 10), np.float32)
    net = net_of(prototxt)
    assert not net.empty()
    with pytest.raises(OpenCVError, match="no shape for the input 'data'; call setInput or"):
        net.getLayerNames()
    net.setInput(blob)
    assert net.getLayerNames() == ("p",)
    assert net.forward().shape == (1, 3, 4, 5)
    net.setInput(np.zeros((2, 3, 12, 6), np.float32))
    assert net.forward().shape == (2, 3, 6, 3)
    other = net_of(prototxt)
    other.setInputShape("data", (1, 3, 8, 10))
    assert other.getUnconnectedOutLayersNames() == ("p",)
    other.setInput(blob)
    if hasattr(cv2.dnn, "readNetFromCaffe"):
        theirs = theirs_of(prototxt)
        theirs.setInput(blob)
        close(other.forward(), theirs.forward())


def test_inputs_can_be_renamed() -> None:
    net = net_of(SIZED)
    net.setInputsNames(["image"])
    net.setInput(np.ones((1, 3, 32, 40), np.float32), "image")
    assert net.forward().max() == 1
    assert net.getLayer(0).outputNameToIndex("image") == 0
    assert net.getLayer(0).outputNameToIndex("data") == -1
    for use, message in (
        (lambda: net.setInput(np.ones((1, 3, 32, 40)), "data"), "no input 'data'; it has 'image'"),
        (lambda: net.setInputsNames(["a", "b"]), "2 names, but the net has 1 inputs: 'data'"),
        (lambda: net.setInputShape("image", (1, 3, 0, 8)), "is not a shape of sizes of 1 or more"),
        (lambda: net.setInputShape("image", (1, 3)), "p"),
    ):
        with pytest.raises(OpenCVError, match=message):
            use()
    assert net.forward().shape == (1, 3, 16, 20)


@needs_reader
@pytest.mark.parametrize("case", ["net_squeezenet_v1_1", "multi_io", "names_weird"])
def test_the_shapes_of_all_layers(case: str) -> None:
    files = case_files(case)
    theirs, ours = cv2.dnn.readNetFromCaffe(*files), readNetFromCaffe(*files)
    shapes: list[Any] = list(ours.input_shapes.values())
    for given in (shapes, shapes[0]) if len(shapes) == 1 else (shapes,):
        found, expected = ours.getLayersShapes(given), theirs.getLayersShapes(given)
        assert list(found[0]) == list(expected[0])
        for mine, right in zip(found[1] + found[2], expected[1] + expected[2], strict=True):
            assert [list(a) for a in mine[: len(right)]] == [list(a) for a in right]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as said", "other order"])
def test_read_net_knows_caffe_by_the_suffix(order: tuple[int, int], tmp_path: Path) -> None:
    prototxt, caffemodel = case_files("net_squeezenet_v1_1")
    files = [caffemodel, prototxt]
    assert isinstance(readNet(*(files[n] for n in order)), opencv.Net)
    assert isinstance(readNet(model=files[order[0]], config=files[order[1]]), opencv.Net)
    (tmp_path / "weights").write_bytes(Path(caffemodel).read_bytes())
    assert isinstance(readNet(tmp_path / "weights", Path(prototxt)), opencv.Net)
    (tmp_path / "net").write_bytes(Path(prototxt).read_bytes())
    assert isinstance(readNet(str(tmp_path / "weights"), f"{tmp_path}/net", "Caffe"), opencv.Net)


def test_read_net_takes_buffers() -> None:
    prototxt, caffemodel = (Path(file).read_bytes() for file in case_files("net_squeezenet_v1_1"))
    arrays = [np.frombuffer(data, np.uint8) for data in (caffemodel, prototxt)]
    nets = [
        readNet("caffe", caffemodel, prototxt),
        readNet("caffe", *arrays),
        readNet(framework="caffe", bufferModel=caffemodel, bufferConfig=prototxt),
    ]
    assert all(net.getLayersCount("Convolution") == 26 for net in nets)


def test_read_net_leaves_other_frameworks_to_opencv(tmp_path: Path) -> None:
    import caffe2torch

    prototxt, caffemodel = case_files("net_squeezenet_v1_1")
    caffe2torch.convert(caffemodel, tmp_path / "net.onnx", prototxt)
    content = np.fromfile(tmp_path / "net.onnx", np.uint8)
    for net in (readNet(str(tmp_path / "net.onnx")), readNet("onnx", content)):
        assert type(net) is type(cv2.dnn.Net())
    for wrong in ([str(tmp_path / "no.onnx")], ["x", "y", "nothing"], [5], []):
        with pytest.raises(cv2.error):
            readNet(*wrong)
    with pytest.raises(OpenCVError, match=r"no\.prototxt"):
        readNet("no.caffemodel", "no.prototxt")


def test_an_unknown_layer_names_what_takes_the_place_of_registered_ones() -> None:
    prototxt = SIZED.replace("Pooling", "Mine").replace("pooling_param", "mine_param")
    with pytest.raises(OpenCVError, match=r"'Mine' is not supported.*cv2\.dnn_registerLayer"):
        net_of(prototxt)


def settings(model: Any) -> Any:
    model.setInputParams(scale=0.5, size=(40, 32), mean=(104, 117, 123), swapRB=True, crop=True)
    return model


@needs_reader
def test_classification() -> None:
    files = case_files("net_squeezenet_v1_1")
    for own in (False, True):  # The size that the net declares, or the program's.
        for seed in range(4):
            answers = []
            for module in (opencv, cv2.dnn):
                model = module.ClassificationModel(module.readNetFromCaffe(*files))
                model.setInputMean((104, 117, 123))
                if own:
                    model.setInputSize(64, 96)
                    model.setInputScale((0.1, 0.2, 0.3))
                    model.setEnableSoftmaxPostProcessing(True)
                    assert model.getEnableSoftmaxPostProcessing()
                answers.append(model.classify(photo(50, 70, seed=seed)))
            assert answers[0][0] == answers[1][0]
            assert answers[0][1] == pytest.approx(answers[1][1], rel=1e-4)


@needs_reader
@pytest.mark.parametrize("change", [lambda model: model, settings], ids=["plain", "all settings"])
@pytest.mark.parametrize("kind", ["SegmentationModel", "KeypointsModel"])
def test_maps(kind: str, change: Any) -> None:
    image, answers = photo(70, 50), []
    for module, read in ((opencv, net_of), (cv2.dnn, theirs_of)):
        model = getattr(module, kind)(read(SIZED))
        change(model)
        answers.append(model.segment(image) if kind[0] == "S" else model.estimate(image, 100))
    assert answers[0].dtype == answers[1].dtype
    close(answers[0], answers[1])


@needs_reader
def test_keypoints_as_places() -> None:
    image = photo(32, 40)
    found, right = (
        module.KeypointsModel(read(SIZED + FLAT)).estimate(image)
        for module, read in ((opencv, net_of), (cv2.dnn, theirs_of))
    )
    close(found, right)


@needs_reader
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(
    ("name", "threshold", "nms"),
    [("detect", 0.01, 0.0), ("detect", 0.02, 0.3), ("case", 0.01, 0.0), ("case", 0.02, 0.2),
     ("case", 0.999, 0.2)],
)  # fmt: skip
def test_detection(name: str, threshold: float, nms: float, across: bool) -> None:
    files = genuine_net("detect")[:2] if name == "detect" else case_files("ssd_mini_ssd")
    net = readNetFromCaffe(*files)
    (shape,) = net.input_shapes.values()
    found = 0
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (160, 224), np.uint8)
        image = noise if name == "detect" else photo(90, 120, shape[1], seed)
        answers = []
        for module in (opencv, cv2.dnn):
            model = module.DetectionModel(module.readNetFromCaffe(*files))
            model.setInputSize((shape[3], shape[2]))
            model.setInputScale(1 / 255 if name == "detect" else 1 / 128)
            model.setNmsAcrossClasses(across)
            answers.append(model.detect(image, threshold, nms))
        rows = [sorted(zip(*map(np.ndarray.tolist, answer), strict=True)) if len(answer[0]) else []
                for answer in answers]  # fmt: skip
        assert [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
        close([row[1] for row in rows[0]], [row[1] for row in rows[1]])
        assert [row[2] for row in rows[0]] == [row[2] for row in rows[1]]
        assert [type(part) for part in answers[0]] == [type(part) for part in answers[1]]
        found += len(rows[0])
    assert (found > 0) == (threshold < 0.9)


def test_models_of_paths_and_of_opencvs_own_nets(tmp_path: Path) -> None:
    import caffe2torch

    prototxt, caffemodel = case_files("net_squeezenet_v1_1")
    ours = opencv.ClassificationModel(caffemodel, prototxt)
    caffe2torch.convert(caffemodel, tmp_path / "net.onnx", prototxt)
    theirs = opencv.ClassificationModel(cv2.dnn.readNetFromONNX(str(tmp_path / "net.onnx")))
    image = photo(50, 70)
    with pytest.raises(OpenCVError, match="call setInputSize first"):
        theirs.classify(image)
    (_, _, height, width) = readNetFromCaffe(prototxt, caffemodel).input_shapes["data"]
    theirs.setInputSize((width, height))
    assert theirs.classify(image)[0] == ours.classify(image)[0]


def test_what_a_model_cannot_do_is_said() -> None:
    image = photo(32, 40)
    with pytest.raises(OpenCVError, match="'Pooling'; boxes are read of 'DetectionOutput'"):
        opencv.DetectionModel(net_of(SIZED)).detect(image)
    two = opencv.ClassificationModel(readNetFromCaffe(*case_files("multi_io")))
    with pytest.raises(cv2.error):
        two.setInputSize(8, 8).classify(image)
    named = opencv.Model(net_of(SIZED + FLAT)).setOutputNames(["p", "r"])
    assert [output.shape for output in named.predict(image)] == [(1, 3, 16, 20), (1, 5, 3)]
