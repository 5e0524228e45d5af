"""A model goes out in every format and comes back the same."""

import cv2
import numpy as np
import pytest
import torch
from support import run_onnx

import caffe2torch
from caffe2torch.preprocessing import Preprocessing
from squeezenet.deploy import ARCHITECTURES, BYPASSES
from squeezenet.export import export, graph_of
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import Transform
from squeezenet.recognise import recognise
from squeezenet.weights import load_model

SIZE = 67
TRANSFORM = Transform(Preprocessing(resize=76, crop_size=SIZE, mean=(3.0, 5.0, 7.0), scale=0.5))


def make(version="1.1", bypass=None):
    torch.manual_seed(2)
    model = SqueezeNet(version, bypass=bypass, num_classes=5).eval()
    torch.nn.init.normal_(model.conv10.weight, std=0.2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def images():
    return torch.from_numpy(
        np.random.default_rng(5).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32) * 40
    )


def probabilities(model, images):
    with torch.inference_mode():
        return torch.softmax(model(images), 1).numpy()


@pytest.mark.parametrize("bypass", BYPASSES)
@pytest.mark.parametrize("version", list(ARCHITECTURES))
def test_the_graph_is_recognised_as_the_model(version, bypass):
    spec = recognise(graph_of(make(version, bypass), SIZE))
    assert (spec.version, spec.bypass, spec.num_classes) == (version, bypass, 5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".caffemodel"])
@pytest.mark.parametrize(("version", "bypass"), [("1.0", None), ("1.1", None), ("1.1", "complex")])
def test_reading_back_gives_identical_tensors(tmp_path, version, bypass, suffix):
    model = make(version, bypass)
    export(model, TRANSFORM, tmp_path / f"model{suffix}")
    loaded = load_model(tmp_path / f"model{suffix}")
    assert loaded.model.architecture == model.architecture
    state = loaded.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert loaded.transform == TRANSFORM


def test_caffemodel_converts_exports_and_converts_the_same(tmp_path):
    model = make()
    first, prototxt = export(model, TRANSFORM, tmp_path / "a.caffemodel")
    converted = caffe2torch.convert(first, tmp_path / "b.safetensors", prototxt)
    again = load_model(converted)
    second, _ = export(again.model, TRANSFORM, tmp_path / "c.caffemodel")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("version", list(ARCHITECTURES))
def test_opencv_reads_the_caffe_files_with_the_same_outputs(tmp_path, images, version):
    model = make(version)
    caffemodel, prototxt = export(model, TRANSFORM, tmp_path / "m.caffemodel")
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    net.setInput(images.numpy())
    # OpenCV chooses other convolution algorithms; float32 throughout.
    np.testing.assert_allclose(
        net.forward().reshape(1, 5), probabilities(model, images), rtol=2e-4, atol=1e-6
    )


def test_onnx_runs_with_the_same_outputs(tmp_path, images):
    model = make(bypass="simple")
    (path,) = export(model, TRANSFORM, tmp_path / "model.onnx")
    (out,) = run_onnx(path, images.numpy()).values()
    np.testing.assert_allclose(
        out.reshape(1, 5), probabilities(model, images), rtol=1e-4, atol=1e-6
    )
