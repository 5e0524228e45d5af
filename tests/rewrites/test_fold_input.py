"""The folded net computes from ordinary RGB what the net computes from Caffe's input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support import genuine_squeezenet, onnx_session, run_onnx

import caffe2torch
from caffe2torch.artefact.read import read_artefact
from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError, WeightsError
from caffe2torch.graph import Graph
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.parity.inputs import image_input
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.rewrites.fold_input import fold_input, set_preprocessing
from squeezenet import load_pretrained, preprocess
from squeezenet.classifier import open_classifier
from squeezenet.config import TrainConfig
from squeezenet.export import export
from squeezenet.weights import load_model

BGR_MEAN = np.array([104.0, 117.0, 123.0])
MEAN = Preprocessing(mean=tuple(BGR_MEAN))
INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { %s } } }'
IMAGE = INPUT % "dim: 1 dim: 3 dim: 11 dim: 13"
REST = """
layer { name: "relu" type: "ReLU" bottom: "conv" top: "relu" }
layer { name: "fc" type: "InnerProduct" bottom: "relu" top: "y" inner_product_param {
  num_output: 7 weight_filler { type: "constant" } } }
"""


def conv(fields: str = "kernel_h: 3 kernel_w: 5 stride: 2", bottom: str = "x") -> str:
    return (
        f'layer {{ name: "conv" type: "Convolution" bottom: "{bottom}" top: "conv" '
        f'convolution_param {{ num_output: 5 {fields} weight_filler {{ type: "constant" }} }} }}'
    )


def net(*layers: str, preprocessing: Preprocessing | None = None) -> Graph:
    """The graph of the layers with seeded random weights."""
    graph = caffe2torch.read(None, "\n".join(layers).encode())
    rng = np.random.default_rng(3)
    params = {
        key: rng.standard_normal(array.shape).astype(np.float32)
        for key, array in graph.params.items()
    }
    return replace(graph, params=params, preprocessing=preprocessing)


def pixels(height: int = 11, width: int = 13) -> np.ndarray:
    """Images (2, 3, H, W) as RGB from 0 to 255."""
    return np.random.default_rng(4).integers(0, 256, (2, 3, height, width)).astype(np.float64)


def ordinary(rgb: np.ndarray, to: str) -> torch.Tensor:
    """What a torchvision pipeline makes of the pixels: ToTensor, and Normalize."""
    x = rgb / 255
    if to == "imagenet":
        mean = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
        std = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
        x = (x - mean) / std
    return torch.from_numpy(x.astype(np.float32))


def caffe(rgb: np.ndarray, mean: object, scale: float, order: str = "BGR") -> torch.Tensor:
    x = rgb[:, ::-1] if order == "BGR" else rgb
    x = (x - np.broadcast_to(mean, 3).reshape(3, 1, 1)) * scale
    return torch.from_numpy(x.astype(np.float32))


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to float32: 1e-5 of the peak, a few roundings of sums of 45 products."""
    peak = float(expected.abs().max())
    assert peak > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * peak)


@pytest.mark.parametrize("to", ["rgb01", "imagenet"])
@pytest.mark.parametrize("bias", ["", "bias_term: false"])
@pytest.mark.parametrize(
    ("mean", "scale", "order"),
    [
        ((104.0, 117.0, 123.0), 1.0, "BGR"),
        ((128.0,), 0.0078125, "BGR"),
        ((1.0, 2.0, 3.0), 2, "RGB"),
    ],
)
def test_computes_the_same(
    to: str, bias: str, mean: tuple[float, ...], scale: float, order: str
) -> None:
    record = Preprocessing(mean=mean, scale=scale, channel_order=order)
    graph = net(IMAGE, conv(f"kernel_size: 3 {bias}"), REST, preprocessing=record)
    folded = fold_input(graph, to)
    with torch.no_grad():
        expected = to_torch(graph)(caffe(pixels(), mean, scale, order))
        assert_same(to_torch(folded)(ordinary(pixels(), to)), expected)


POWER = 'layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: 2 } }'
SUM = 'layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "p" top: "sum" }'
IN_PLACE = 'layer { name: "relu0" type: "ReLU" bottom: "x" top: "x" }'
SHARED = conv("kernel_size: 3 pad: 1").replace("top:", 'param { name: "w" } top:')
SHARED = SHARED.replace("num_output: 5", "num_output: 3")
AGAIN = SHARED.replace('"conv"', '"conv2"').replace('bottom: "x"', 'bottom: "conv"')
INFO = (INPUT % "dim: 1 dim: 3").replace('"x"', '"info"').replace('"in"', '"in2"')
GROUPS = conv("kernel_size: 3").replace("num_output: 5", "num_output: 6 group: 3")


@pytest.mark.parametrize("to", ["rgb01", "imagenet"])
@pytest.mark.parametrize(
    "layers",
    {
        "padded": (IMAGE, conv("kernel_size: 3 pad: 2"), REST),
        "beyond the image": (IMAGE, conv("kernel_size: 12 stride: 3"), REST),
        "other first layer": (IMAGE, POWER, conv(bottom="p"), REST),
        "two readers": (IMAGE, conv("kernel_size: 1").replace("5", "3"), POWER, SUM),
        "in place": (IMAGE, IN_PLACE, conv(), REST),
        "over the batch": (IMAGE.replace("1", "2", 1), conv("kernel_size: 3 axis: 0"), REST),
        "groups": (IMAGE, GROUPS, REST),
        "shared weights": (IMAGE, SHARED, AGAIN, REST.replace('"conv"', '"conv2"')),
        "name taken": (IMAGE, conv("pad: 1 kernel_size: 3").replace("conv", "x_from_rgb", 2)),
    }.items(),
    ids=lambda case: case[0],
)
def test_a_layer_before_it_where_the_first_cannot(
    layers: tuple[str, tuple[str, ...]], to: str
) -> None:
    graph = net(*layers[1], preprocessing=MEAN)
    folded = fold_input(graph, to)
    assert len(folded.nodes) == len(graph.nodes) + 1
    assert folded.outputs == graph.outputs
    with torch.no_grad():
        expected = to_torch(graph)(caffe(pixels(), BGR_MEAN, 1))
        assert_same(to_torch(folded)(ordinary(pixels(), to)), expected)


def test_inputs_that_are_no_image_stay() -> None:
    flat = 'layer { name: "i" type: "TanH" bottom: "info" top: "i" }'
    graph = net(IMAGE, INFO, conv(), flat, preprocessing=MEAN)
    folded = fold_input(graph, "rgb01")
    info = torch.ones(2, 3)
    with torch.no_grad():
        expected = to_torch(graph)({"x": caffe(pixels(), BGR_MEAN, 1), "info": info})
        actual = to_torch(folded)({"x": ordinary(pixels(), "rgb01"), "info": info})
    assert_same(actual["conv"], expected["conv"])
    assert torch.equal(actual["i"], expected["i"])


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_a_layer_before_it_survives_the_file(tmp_path: Path, suffix: str) -> None:
    model, prototxt = files(tmp_path, IMAGE, conv("kernel_size: 3 pad: 1"), REST)
    path = tmp_path / f"folded{suffix}"
    caffe2torch.convert(model, path, prototxt, input="imagenet", mean=tuple(BGR_MEAN))
    x = ordinary(pixels(), "imagenet")
    with torch.no_grad():
        expected = caffe2torch.load(model, prototxt)(caffe(pixels(), BGR_MEAN, 1))
    if suffix == ".onnx":
        (output,) = run_onnx(path, x.numpy()).values()
        actual = torch.from_numpy(output)
    else:
        with torch.no_grad():
            actual = caffe2torch.load(path)(x)
    assert_same(actual, expected)


def test_padding_is_exact_where_no_mean_moves() -> None:
    graph = net(IMAGE, conv("kernel_size: 3 pad: 1"), REST, preprocessing=Preprocessing())
    folded = fold_input(graph, "rgb01")
    with torch.no_grad():
        expected = to_torch(graph)(caffe(pixels(), 0, 1))
        assert_same(to_torch(folded)(ordinary(pixels(), "rgb01")), expected)
    assert np.array_equal(folded.params["conv.bias"], graph.params["conv.bias"])


def test_no_bias_is_gained_where_no_mean_moves() -> None:
    graph = net(IMAGE, conv("kernel_size: 3 bias_term: false"), preprocessing=Preprocessing())
    assert fold_input(graph, "rgb01").params.keys() == graph.params.keys()


def test_folding_twice_is_folding_once() -> None:
    graph = net(IMAGE, conv(), REST, preprocessing=Preprocessing(mean=tuple(BGR_MEAN)))
    once, between = fold_input(graph, "imagenet"), fold_input(graph, "rgb01")
    twice = fold_input(between, "imagenet")
    assert once.preprocessing == twice.preprocessing
    for key, array in once.params.items():
        # Two roundings to float32, the first of a bias of some thousands.
        atol = 1e-6 * np.abs(between.params[key]).max()
        np.testing.assert_allclose(twice.params[key], array, rtol=0, atol=atol, err_msg=key)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_a_gained_bias_and_the_record_survive_the_file(tmp_path: Path, suffix: str) -> None:
    model, prototxt = files(tmp_path, IMAGE, conv("kernel_size: 3 bias_term: false"), REST)
    options = {"mean": (9.0, 5.0, 2.0), "scale": 0.25}
    path = tmp_path / f"folded{suffix}"
    caffe2torch.convert(model, path, prototxt, input="imagenet", **options)
    module = caffe2torch.load(model, prototxt, input="imagenet", **options)
    x = ordinary(pixels(), "imagenet")
    with torch.no_grad():
        plain = caffe2torch.load(model, prototxt)(caffe(pixels(), (9.0, 5.0, 2.0), 0.25))
        assert_same(module(x), plain)
    if suffix == ".onnx":
        session = onnx_session(path)
        (output,) = run_onnx(session, x.numpy()).values()
        assert_same(torch.from_numpy(output), plain)
        record = json.loads(session.get_modelmeta().custom_metadata_map["caffe2torch"])
    else:
        with torch.no_grad():
            assert torch.equal(caffe2torch.load(path)(x), module(x))
        record, _ = read_artefact(path)
        assert caffe2torch.read(path).preprocessing == module.preprocessing
    assert record["preprocessing"]["channel_order"] == "RGB"
    assert record["preprocessing"]["std"] == [0.229, 0.224, 0.225]
    assert "bias_term: true" in record["definition"]


def files(tmp_path: Path, *layers: str) -> tuple[Path, Path]:
    from caffe2torch.io.write_caffemodel import write_caffemodel

    model, prototxt = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    write_caffemodel(net(*layers), model, prototxt)
    return model, prototxt


@pytest.mark.parametrize(
    ("layers", "record", "message"),
    [
        ((IMAGE, conv()), None, r"does not say .*--mean B,G,R"),
        ((IMAGE, conv()), Preprocessing(mean_file="m.binaryproto"), r"'m\.binaryproto'.*--mean"),
        ((IMAGE,), MEAN, "the input 'x' is an output too"),
        ((INPUT % "dim: 1 dim: 1 dim: 9 dim: 9", conv()), MEAN, r"\(1, 1, 9, 9\).*three channels"),
        ((INPUT % "dim: 2 dim: 3", 'layer { name: "t" type: "TanH" bottom: "x" top: "t" }'),
         MEAN, r"\(2, 3\).*three channels"),
        ((IMAGE, IMAGE.replace('"x"', '"z"').replace('"in"', '"in2"'), conv()), MEAN,
         r"'x' \(1, 3, 11, 13\), 'z' \(1, 3, 11, 13\); exactly one"),
    ],
)  # fmt: skip
def test_refused_by_name(
    layers: tuple[str, ...], record: Preprocessing | None, message: str
) -> None:
    with pytest.raises(ArtefactError, match=message):
        fold_input(net(*layers, preprocessing=record), "rgb01")


def test_an_unknown_input_is_refused() -> None:
    with pytest.raises(ArtefactError, match="no input 'rgb'; choose rgb01 or imagenet"):
        fold_input(net(IMAGE, conv()), "rgb")


def test_what_the_caller_knows_takes_the_place_of_the_record() -> None:
    graph = net(IMAGE, conv(), preprocessing=Preprocessing(mean_file="m", scale=0.5, crop_size=11))
    known = set_preprocessing(graph, (1, 2, 3)).preprocessing
    assert known == Preprocessing(mean=(1.0, 2.0, 3.0), scale=0.5, crop_size=11)
    assert graph.preprocessing is not None
    assert set_preprocessing(graph, None, 2).preprocessing == replace(graph.preprocessing, scale=2)
    assert set_preprocessing(graph) is graph


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [((1.0, 2.0), None, "2 values; give one"), (None, 2.0, "--mean"), ((1.0,), 0.0, "scale 0.0")],
)
def test_half_known_preprocessing_is_refused(
    mean: tuple[float, ...] | None, scale: float | None, message: str
) -> None:
    with pytest.raises(ArtefactError, match=message):
        set_preprocessing(net(IMAGE, conv()), mean, scale)


def test_the_command(tmp_path: Path) -> None:
    model, prototxt = files(tmp_path, IMAGE, conv(), REST)
    command = ["convert", str(model), str(tmp_path / "o.pt"), "--prototxt", str(prototxt)]
    result = CliRunner().invoke(main, [*command, "--input", "rgb01"])
    assert result.exit_code == 2
    assert "--mean B,G,R" in result.output
    result = CliRunner().invoke(
        main, [*command, "--input", "rgb01", "--mean", "9,5,2", "--scale", "0.5"]
    )
    assert result.exit_code == 0, result.output
    with torch.no_grad():
        expected = caffe2torch.load(model, prototxt)(caffe(pixels(), (9, 5, 2), 0.5))
        assert_same(caffe2torch.load(tmp_path / "o.pt")(ordinary(pixels(), "rgb01")), expected)
    result = CliRunner().invoke(main, [*command, "--mean", "9,green,2"])
    assert result.exit_code == 2


@pytest.mark.parametrize("to", ["rgb01", "imagenet"])
def test_an_image_is_made_as_the_record_says(tmp_path: Path, to: str) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (31, 37, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "i.png"), bgr)
    plain = net(IMAGE, conv(), REST, preprocessing=Preprocessing(mean=tuple(BGR_MEAN), scale=0.5))
    folded = fold_input(plain, to)
    results = []
    for graph in (plain, folded):
        x = image_input(tmp_path / "i.png", graph.inputs[0].shape, graph.preprocessing)
        with torch.no_grad():
            results.append(to_torch(graph)(torch.from_numpy(x[None])))
    assert_same(results[1], results[0])


def photo() -> np.ndarray:
    """Smooth random colours, (H, W, 3), blue first."""
    small = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8)
    return cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("version", "to", "suffix"), [("1.0", "rgb01", ".safetensors"), ("1.1", "imagenet", ".pt")]
)
def test_a_squeezenet_says_what_it_takes(
    tmp_path: Path, version: str, to: str, suffix: str
) -> None:
    model = genuine_squeezenet(version)
    path = caffe2torch.convert(model, tmp_path / f"rgb{suffix}", input=to)
    plain, folded = load_pretrained(version, model), load_pretrained(version, path)
    assert folded.preprocessing.channel_order == "RGB"
    x = preprocess(photo(), preprocessing=folded.preprocessing)
    rgb = preprocess(photo()) + BGR_MEAN.reshape(3, 1, 1)
    np.testing.assert_allclose(x, ordinary(rgb[None, ::-1], to)[0], rtol=0, atol=1e-6)
    opened = open_classifier(path, "torch", "cpu", None)
    with torch.no_grad():
        expected = plain(torch.from_numpy(preprocess(photo())[None]))
        assert_same(folded(torch.from_numpy(x[None])), expected)
        assert_same(
            opened.predict(torch.from_numpy(opened.transform(photo(), None)[None])), expected
        )


def test_a_squeezenet_in_onnx_says_what_it_takes(tmp_path: Path) -> None:
    model = genuine_squeezenet("1.1")
    path = caffe2torch.convert(model, tmp_path / "rgb.onnx", input="imagenet")
    plain, folded = (
        open_classifier(model, "torch", "cpu", None),
        open_classifier(path, "onnxruntime", "cpu", None),
    )
    expected, actual = (
        engine.predict(torch.from_numpy(engine.transform(photo(), None)[None]))
        for engine in (plain, folded)
    )
    assert_same(actual, expected)


def test_folded_weights_go_neither_into_training_nor_into_caffes_files(tmp_path: Path) -> None:
    from squeezenet.train import train

    path = caffe2torch.convert(genuine_squeezenet("1.1"), tmp_path / "rgb.pt", input="rgb01")
    loaded = load_model(path)
    with pytest.raises(ArtefactError, match="feeds blue first"):
        export(loaded.model, loaded.transform, tmp_path / "rgb.caffemodel")
    again = load_model(export(loaded.model, loaded.transform, tmp_path / "again.pt")[0])
    assert again.transform == loaded.transform
    for name in ("a", "b"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        (tmp_path / "data" / "val" / name).mkdir(parents=True)
        for split in ("train", "val"):
            cv2.imwrite(str(tmp_path / "data" / split / name / "i.png"), photo())
    config = TrainConfig(data=str(tmp_path / "data"), pretrained=str(path), out=str(tmp_path / "o"))
    with pytest.raises(WeightsError, match="training feeds blue first"):
        train(config, report=lambda _: None)
