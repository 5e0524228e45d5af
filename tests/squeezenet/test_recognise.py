from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import CASES, genuine_squeezenet

import caffe2torch
from squeezenet import SqueezeNet
from squeezenet.recognise import SqueezeNetSpec, recognise

Net = Callable[..., Any]


@pytest.fixture
def recognise_text(tmp_path: Path) -> Callable[[str], SqueezeNetSpec | None]:
    def run(text: str) -> SqueezeNetSpec | None:
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return recognise(caffe2torch.read(prototxt=path))

    return run


@pytest.mark.parametrize("bypass", [None, "simple", "complex"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_version_and_bypass_by_structure(
    version: str, bypass: str | None, recognise_text: Net, squeezenet_prototxt: Net
) -> None:
    spec = recognise_text(squeezenet_prototxt(version=version, bypass=bypass))
    assert spec is not None
    assert (spec.version, spec.bypass, spec.num_classes) == (version, bypass, 1000)
    assert (spec.dropout, spec.softmax) == (0.5, True)


@pytest.mark.parametrize("num_classes", [1, 2, 20])
def test_any_number_of_classes(
    num_classes: int, recognise_text: Net, squeezenet_prototxt: Net
) -> None:
    spec = recognise_text(squeezenet_prototxt(num_classes=num_classes))
    assert spec is not None
    assert spec.num_classes == num_classes


def test_dropout_and_softmax_are_optional(recognise_text: Net, squeezenet_prototxt: Net) -> None:
    spec = recognise_text(squeezenet_prototxt(dropout=None, softmax=False))
    assert spec is not None
    assert (spec.dropout, spec.softmax) == (0.0, False)
    spec = recognise_text(squeezenet_prototxt(dropout=0.25))
    assert spec is not None
    assert spec.dropout == 0.25


@pytest.mark.parametrize("bypass", [None, "complex"])
def test_maps_every_parameter(bypass: str | None, tmp_path: Path, squeezenet_prototxt: Net) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(squeezenet_prototxt(bypass=bypass))
    graph = caffe2torch.read(prototxt=path)
    spec = recognise(graph)
    assert spec is not None
    assert set(spec.params) == set(graph.params)
    model = SqueezeNet(spec.version, bypass=bypass)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {own: graph.params[key].shape for key, own in spec.params.items()} == shapes


def test_caffe_names_map_to_themselves(recognise_text: Net, squeezenet_prototxt: Net) -> None:
    spec = recognise_text(squeezenet_prototxt(bypass="complex", caffe_names=True))
    assert spec is not None
    assert all(key == own for key, own in spec.params.items())


def test_record_is_that_of_the_model(recognise_text: Net, squeezenet_prototxt: Net) -> None:
    spec = recognise_text(squeezenet_prototxt(bypass="simple", num_classes=7))
    assert spec is not None
    model = SqueezeNet("1.1", bypass="simple", num_classes=7)
    assert (spec.version, spec.bypass) == (model.version, model.bypass)
    assert spec.num_classes == model.num_classes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_output: 48", "num_output: 56"),
        ("kernel_size: 3 stride: 2 pad: 0", "kernel_size: 3 stride: 2 pad: 1"),
        ("kernel_size: 3 stride: 1 pad: 1", "kernel_size: 3 stride: 1 pad: 1 group: 2"),
        ("kernel_size: 3 stride: 1 pad: 1", "kernel_size: 3 stride: 1 pad: 2 dilation: 2"),
        ("num_output: 1000", "num_output: 1000 bias_term: false"),
        ("pool: MAX", "pool: AVE"),
        ("pool: MAX", "round_mode: FLOOR pool: MAX"),
        ("pool: AVE", "pool: MAX"),
        ('type: "ReLU"', 'relu_param { negative_slope: 0.1 } type: "ReLU"'),
        ('type: "ReLU"', 'type: "Sigmoid"'),
        ('type: "Eltwise"', 'type: "Eltwise" eltwise_param { operation: MAX }'),
        ('type: "Eltwise"', 'type: "Eltwise" eltwise_param { coeff: 1 coeff: 0.5 }'),
        ('type: "Softmax"', 'type: "Softmax" softmax_param { axis: 2 }'),
        ("dim: 1 dim: 3", "dim: 1 dim: 4"),
    ],
)
def test_a_changed_layer_is_another_net(
    old: str, new: str, recognise_text: Net, squeezenet_prototxt: Net
) -> None:
    text = squeezenet_prototxt(bypass="simple")
    assert old in text
    assert recognise_text(text) is not None
    last = text.rindex(old)
    assert recognise_text(text[:last] + new + text[last + len(old) :]) is None


def test_a_further_output_is_another_net(recognise_text: Net, squeezenet_prototxt: Net) -> None:
    text = squeezenet_prototxt()
    extra = '\nlayer { name: "more" type: "Sigmoid" bottom: "b1" top: "more" }'
    assert recognise_text(text + extra) is None


def test_swapped_expands_are_another_net(recognise_text: Net, squeezenet_prototxt: Net) -> None:
    text = squeezenet_prototxt()
    start = text.index('type: "Concat"')
    bottoms = text[start : text.index(" top:", start)]
    _, first, second = bottoms.split(" bottom: ")
    swapped = f'type: "Concat" bottom: {second} bottom: {first}'
    assert recognise_text(text.replace(bottoms, swapped)) is None


def test_shared_weights_are_another_net(recognise_text: Net, squeezenet_prototxt: Net) -> None:
    text = squeezenet_prototxt(bypass="complex")
    lines = text.splitlines()
    twins = [i for i, line in enumerate(lines) if "num_output: 64 kernel_size: 1 " in line][:2]
    for i in twins:
        lines[i] = lines[i].replace("top:", 'param { name: "w" } top:')
    assert recognise_text("\n".join(lines)) is None


@pytest.mark.parametrize("case", ["net_squeezenet_v1_0", "net_inception_block", "net_alexnet_mini"])
def test_other_nets_are_not_recognised(case: str) -> None:
    folder = CASES / case
    graph = caffe2torch.read(folder / "net.caffemodel", folder / "net.prototxt")
    assert recognise(graph) is None


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("net", [None, "deploy.prototxt", "train_val.prototxt"])
def test_genuine_nets(version: str, net: str | None) -> None:
    model = genuine_squeezenet(version)
    spec = recognise(caffe2torch.read(model, model.parent / net if net else None))
    assert spec is not None
    assert (spec.version, spec.bypass, spec.num_classes) == (version, None, 1000)
    assert spec.dropout == 0.5
    assert all(key == own for key, own in spec.params.items())


def test_the_published_mean_is_known_of_a_squeezenet_alone(
    tmp_path: Path, squeezenet_prototxt: Net
) -> None:
    def folded(text: str, **options: object) -> dict[str, np.ndarray]:
        (tmp_path / "net.prototxt").write_text(text)
        out = tmp_path / "out.safetensors"
        caffe2torch.convert(
            None, out, tmp_path / "net.prototxt", input="rgb01", allow_missing=True, **options
        )
        return load_file(out)

    text = squeezenet_prototxt(num_classes=3, caffe_names=True)
    known, given = folded(text), folded(text, mean=(104.0, 117.0, 123.0))
    assert all(np.array_equal(known[key], given[key]) for key in given)
    with pytest.raises(caffe2torch.ArtefactError, match="--mean"):
        folded(text.replace('type: "ReLU"', 'type: "Sigmoid"'))


def test_does_not_import_torch() -> None:
    code = (
        "import sys, squeezenet.recognise; assert not {'torch', 'onnx', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
