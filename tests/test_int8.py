"""int8 ONNX: small, close to float32, the same bytes again, and honest about what it costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from support import genuine, genuine_squeezenet, run_onnx

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError, ParityError
from caffe2torch.int8 import quantize
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.parity.inputs import image_input
from squeezenet.classifier import open_classifier

IMAGES = 24
NET = """
layer { name: "in" type: "Input" top: "data" input_param {
  shape { dim: 1 dim: 3 dim: 29 dim: 31 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
  num_output: 32 kernel_size: 3 stride: 2 weight_filler { type: "constant" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param {
  num_output: 96 kernel_size: 3 weight_filler { type: "constant" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool" pooling_param {
  pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {
  num_output: 7 weight_filler { type: "constant" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def load(path: Path) -> np.ndarray:
    return image_input(path, (1, 3, 29, 31), None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A classifier with random weights, and images labelled by what it says of them."""
    folder = tmp_path_factory.mktemp("net")
    graph = caffe2torch.read(None, NET.encode())
    rng = np.random.default_rng(7)
    params = {
        key: (rng.standard_normal(a.shape) * np.sqrt(2 / max(a[0].size, 1))).astype(np.float32)
        for key, a in graph.params.items()
    }
    images = folder / "images"
    images.mkdir()
    for number in range(IMAGES):
        colours = (rng.integers(0, 156, 3) + rng.integers(0, 100, (4, 4, 3))).astype(np.uint8)
        image = cv2.resize(colours, (41, 37), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(images / f"{number:02}.png"), image)
    x = torch.from_numpy(np.stack([load(path) for path in sorted(images.iterdir())]))
    # A bias that takes away what all images have in common: else one class wins always.
    with torch.no_grad():
        common = to_torch(replace(graph, params=params)).blobs(x)["fc"].mean(0)
    params["fc.bias"] -= common.numpy()
    graph = replace(graph, params=params)
    labels = to_torch(graph)(x).argmax(1).tolist()
    assert len(set(labels)) > 3
    lines = [f"{number:02}.png {label}\n" for number, label in enumerate(labels)]
    (folder / "labels.txt").write_text("".join(lines))
    model, prototxt = folder / "net.caffemodel", folder / "net.prototxt"
    write_caffemodel(graph, model, prototxt)
    return model, prototxt, images


def test_is_small_and_close_to_float32(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    model, prototxt, images = files
    target = tmp_path / "int8.onnx"
    labels = images.parent / "labels.txt"
    report = quantize(model, target, prototxt, images=images, val_list=labels, calibrate=10)
    assert (report.calibrated, report.images) == (10, IMAGES - 10)
    assert target.stat().st_size == report.int8_bytes < 0.4 * report.float32_bytes
    plain = caffe2torch.convert(model, tmp_path / "plain.onnx", prototxt)
    assert report.float32_bytes == plain.stat().st_size
    assert report.scores["float32"].top1 == IMAGES - 10
    assert report.scores["int8"].top1 >= IMAGES - 11
    assert report.scores["int8"].top1 == report.agreement.top1
    # Of probabilities that hang on small differences of 96 means.
    assert report.signal_to_noise > 12


def test_the_file_computes_what_the_report_says(
    tmp_path: Path, files: tuple[Path, Path, Path]
) -> None:
    model, prototxt, images = files
    target = tmp_path / "int8.onnx"
    report = quantize(model, target, prototxt, images=images)
    taken = {i * IMAGES // 12 for i in range(12)}
    others = [p for i, p in enumerate(sorted(images.iterdir())) if i not in taken]
    x = np.stack([load(path) for path in others])
    value = run_onnx(target, x)["prob"]
    with torch.no_grad():
        expected = caffe2torch.load(model, prototxt)(torch.from_numpy(x)).numpy()
    noise = np.square(value - expected).sum() / np.square(expected).sum()
    assert report.signal_to_noise == pytest.approx(-10 * np.log10(noise), abs=0.05)
    assert report.scores == {}
    written = onnx.load(target)
    onnx.checker.check_model(written, full_check=True)
    kinds = [node.op_type for node in written.graph.node]
    assert kinds[-1] == "Softmax"
    assert {i.data_type for i in written.graph.initializer if i.dims[1:]} == {onnx.TensorProto.INT8}
    (entry,) = written.metadata_props
    metadata = json.loads(entry.value)
    assert metadata["quantization"]["images"] == 12
    assert metadata["definition"]


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, files: tuple[Path, Path, Path]
) -> None:
    model, prototxt, images = files
    a, b = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path in (a, b):
        quantize(model, path, prototxt, images=images, calibrate=4)
    assert a.read_bytes() == b.read_bytes()
    quantize(model, b, prototxt, images=images, calibrate=4, reduce_range=True)
    assert a.read_bytes() != b.read_bytes()


def test_a_net_that_takes_rgb_is_calibrated_on_rgb(
    tmp_path: Path, files: tuple[Path, Path, Path]
) -> None:
    model, prototxt, images = files
    options = {"images": images, "val_list": images.parent / "labels.txt"}
    rgb = tmp_path / "rgb.safetensors"
    caffe2torch.convert(model, rgb, prototxt, input="rgb01", mean=(104, 117, 123))
    report = quantize(rgb, tmp_path / "int8.onnx", **options)
    assert report.scores["float32"].top1 == report.images
    assert report.scores["int8"].top1 >= report.images - 1
    engine = open_classifier(tmp_path / "int8.onnx", "onnxruntime", "cpu", None)
    assert engine.transform.preprocessing.channel_order == "RGB"


def test_the_command(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    model, prototxt, images = files
    target, report = tmp_path / "int8.onnx", tmp_path / "report.json"
    command = ["quantize", model, target, "--prototxt", prototxt, "--images", images]
    command += ["--val-list", images.parent / "labels.txt", "--json", report]
    result = CliRunner().invoke(main, [str(a) for a in command])
    assert result.exit_code == 0, result.output
    assert "12 of 12" in result.output
    assert "calibrated on 12 images, compared on 12 others" in result.output
    values = json.loads(report.read_text())
    assert values["int8_bytes"] == target.stat().st_size
    assert "Collecting" not in result.output


def test_refusals(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    model, prototxt, images = files
    target = tmp_path / "int8.onnx"
    with pytest.raises(ArtefactError, match="the int8 form is ONNX"):
        quantize(model, tmp_path / "int8.pt", prototxt, images=images)
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.png").write_bytes((images / "00.png").read_bytes())
    with pytest.raises(ParityError, match="1 images are too few: 2 or more"):
        quantize(model, target, prototxt, images=one)
    with pytest.raises(ParityError, match="not a folder"):
        quantize(model, target, prototxt, images=tmp_path / "none")
    with pytest.raises(ParityError, match=r"cannot read the list .*none\.txt"):
        quantize(model, target, prototxt, images=images, val_list=tmp_path / "none.txt")
    (one / "b.png").write_bytes(b"no image")
    (one / "c.png").write_bytes(b"no image")
    with pytest.raises(ParityError, match=r"[bc]\.png is not an image that OpenCV can decode"):
        quantize(model, target, prototxt, images=one)
    vector = (
        b'input: "x" input_shape { dim: 2 dim: 3 } layer { name: "t" type: "TanH" '
        b'bottom: "x" top: "t" }'
    )
    with pytest.raises(ParityError, match=r"one image input; its inputs are 'x' \(2, 3\)"):
        quantize(None, target, vector, images=images)
    assert not target.exists()


@pytest.mark.slow
def test_a_genuine_squeezenet_keeps_its_accuracy(tmp_path: Path) -> None:
    model, images = genuine_squeezenet("1.1"), genuine("DATA", "imagenet_sample", "images")
    report = quantize(model, tmp_path / "int8.onnx", images=images)
    assert (report.calibrated, report.images) == (50, 150)
    assert report.int8_bytes < 0.28 * report.float32_bytes
    assert report.scores["int8"].top1 >= report.scores["float32"].top1 - 3
    assert report.scores["int8"].top5 >= report.scores["float32"].top5 - 3
    assert report.agreement.top1 >= 142
    assert report.signal_to_noise > 30


def scales_and_zeros(path: Path) -> tuple[list[np.ndarray], list[np.ndarray], set[str]]:
    """Scales and zero points of the file's integers, and the types of what becomes float32."""
    graph = onnx.load(path).graph
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    kinds = {str(arrays[n.input[0]].dtype) for n in nodes if n.input[0] in arrays}
    return [arrays[n.input[1]] for n in nodes], [arrays[n.input[2]] for n in nodes], kinds


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_schemes(
    tmp_path: Path, files: tuple[Path, Path, Path], symmetric: bool, per_tensor: bool
) -> None:
    model, prototxt, images = files
    arguments = ["quantize", str(model), str(tmp_path / "q.onnx"), "--prototxt", str(prototxt)]
    arguments += ["--images", str(images), "--json", str(tmp_path / "q.json")]
    arguments += ["--symmetric"] * symmetric + ["--per-tensor"] * per_tensor
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    # The net's differences are small (12 dB as it is); what is not quantised rightly has 0 dB.
    assert json.loads((tmp_path / "q.json").read_text())["signal_to_noise"] > 6
    scales, zeros, kinds = scales_and_zeros(tmp_path / "q.onnx")
    assert symmetric == all(not zero.any() for zero in zeros)
    assert symmetric == all(zero.dtype == np.int8 for zero in zeros)
    assert kinds == ({"int8"} if symmetric else {"int8", "int32"})  # int32: biases.
    assert per_tensor == all(scale.size == 1 for scale in scales)
    (entry,) = onnx.load(tmp_path / "q.onnx").metadata_props
    made = json.loads(entry.value)["quantization"]
    assert made["activations"] == ("int8" if symmetric else "uint8")
    assert made["scales"] == ("per tensor" if per_tensor else "per channel")
