"""Nets written back as caffemodel and prototxt: read again here, and by OpenCV."""

import json
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from support import CASES, genuine

import caffe2torch
from caffe2torch.errors import ArtefactError
from caffe2torch.io import write_caffemodel as module
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import message_class
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.passes.draft import Draft, Options
from caffe2torch.passes.parameters import decode_parameters
from caffe2torch.pipeline import blob_source, build_graph, run
from caffe2torch.preprocessing import Preprocessing

READ_AGAIN = [
    "bn_scale_factor",
    "bn_upgrade_three_params",
    "conv_3d",
    "data_layer_excluded_by_phase",
    "deconv_group2",
    "embed_bias",
    "inplace_on_input",
    "ip_transpose",
    "ip_transpose_nobias_axis2",
    "legacy_two_inputs_shape",
    "lstm_basic",
    "names_weird",
    "net_mobilenet_block",
    "net_resnet_block",
    "net_squeezenet_v1_1",
    "parameter_eltwise",
    "prelu_shared",
    "relu",
    "scale_scalar",
    "shared_params_conv",
    "snapshot_with_splits",
    "v0_text_v0_binary",
    "v1_text_v1_binary",
    "weights_inline_in_prototxt",
]

OPENCV_READS = [
    "bn_scale_factor",
    "deconv_group2",
    "deconv_hw",
    "ip_4d",
    "ip_transpose",
    "net_mobilenet_block",
    "net_resnet_block",
    "net_squeezenet_v1_0",
    "net_squeezenet_v1_1",
    "net_unet",
    "prelu",
    "prelu_shared",
    "scale_bias",
    "shared_params_conv",
    "v1_text_v1_binary",
]
"""Conformance nets that OpenCV runs from their own files (not always as Caffe does)."""


def read(prototxt, weights=None):
    """The graph of a net's files; either may be None."""
    file = read_caffemodel(weights) if weights else None
    net = read_prototxt(prototxt) if prototxt else file.net
    return build_graph(net, blob_source(file), options=Options(of_weights=not prototxt))


def files_of(case):
    weights = json.loads((CASES / case / "case.json").read_text())["weights_file"]
    return CASES / case / "net.prototxt", weights and CASES / case / weights


def write(graph, folder):
    paths = folder / "o.prototxt", folder / "o.caffemodel"
    write_caffemodel(graph, paths[1], paths[0])
    return paths


def assert_same(graph, other):
    assert (graph.inputs, graph.outputs) == (other.inputs, other.outputs)
    assert graph.definition == other.definition
    assert list(graph.params) == list(other.params)
    for key, array in graph.params.items():
        assert array.shape == other.params[key].shape, key
        assert array.tobytes() == other.params[key].tobytes(), key


def run_opencv(prototxt, weights, inputs):
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
    for blob, value in inputs.items():
        net.setInput(value, blob)
    return net.forward(net.getUnconnectedOutLayersNames())


@pytest.mark.parametrize("case", READ_AGAIN)
def test_reads_again_as_the_same_net(case, tmp_path):
    graph = read(*files_of(case))
    assert_same(graph, read(*write(graph, tmp_path)))


@pytest.mark.parametrize("case", OPENCV_READS)
def test_opencv_computes_the_same_from_the_written_files(case, tmp_path):
    files = files_of(case)
    with np.load(CASES / case / "io.npz") as arrays:
        inputs = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in/")}
    want = run_opencv(*files, inputs)
    got = run_opencv(*write(read(*files), tmp_path), inputs)
    assert [array.tobytes() for array in got] == [array.tobytes() for array in want]


@pytest.mark.parametrize("version", ["squeezenet_v1.0", "squeezenet_v1.1"])
def test_squeezenet(version, tmp_path):
    folder = genuine("MODELS", version)
    files = folder / "deploy.prototxt", folder / f"{version}.caffemodel"
    graph = read(*files)
    written = write(graph, tmp_path)
    assert_same(graph, read(*written))
    image = np.random.default_rng(0).normal(0, 60, graph.inputs[0].shape).astype(np.float32)
    want = run_opencv(*files, {"data": image})
    got = run_opencv(*written, {"data": image})
    assert [array.tobytes() for array in got] == [array.tobytes() for array in want]


def test_file_has_packed_float32_in_modern_shapes(tmp_path):
    graph = read(*files_of("v1_text_v1_binary"))
    _, path = write(graph, tmp_path)
    net = message_class("NetParameter").FromString(path.read_bytes())
    assert not net.layers
    shapes = {layer.name: [tuple(b.shape.dim) for b in layer.blobs] for layer in net.layer}
    assert {name: found for name, found in shapes.items() if found} == {
        "conv1": [(6, 3, 3, 3), (6,)],
        "conv2": [(4, 3, 2, 2), (4,)],
        "fc": [(5, 8), (5,)],
    }
    assert all(not blob.HasField("num") for layer in net.layer for blob in layer.blobs)
    # The reader makes views only of values that the file has packed in one piece.
    blobs = [blob for layer in read_caffemodel(path).blobs for blob in layer]
    assert all(blob.data.dtype == "<f4" and not blob.data.flags.owndata for blob in blobs)


def test_layers_of_the_caffemodel_are_those_of_the_prototxt(tmp_path):
    prototxt, path = write(read(*files_of("net_squeezenet_v1_1")), tmp_path)
    net = run((decode_parameters,), Draft(read_caffemodel(path).net)).net
    text = read_prototxt(prototxt)
    for message in (text, *text.layer):
        message.ClearField("place")
    text.ClearField("text")
    assert net == text


def test_caffemodel_alone_is_a_whole_net(tmp_path):
    graph = read(*files_of("net_squeezenet_v1_1"))
    _, path = write(graph, tmp_path)
    assert_same(graph, read(None, path))


def test_prototxt_is_optional(tmp_path):
    write_caffemodel(read(*files_of("ip_4d")), tmp_path / "o.caffemodel")
    assert [path.name for path in tmp_path.iterdir()] == ["o.caffemodel"]


def test_shared_array_stands_in_every_layer(tmp_path):
    graph = read(*files_of("shared_params_conv"))
    _, path = write(graph, tmp_path)
    first, second = (blobs for blobs in read_caffemodel(path).blobs if blobs)
    assert len(graph.params) == len(first) == len(second) == 2
    for blob, other in zip(first, second, strict=True):
        assert blob.data.tobytes() == other.data.tobytes()


def inner_products(names, folder):
    """Two InnerProduct layers with 4 MB of weights each."""
    filler = 'weight_filler { type: "constant" value: 2 } bias_filler { type: "constant" }'
    layers = [
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" '
        f"inner_product_param {{ num_output: 1000 {filler} }} }}"
        for name, bottom, top in zip(names, "xy", "yz", strict=True)
    ]
    path = folder / "net.prototxt"
    path.write_text('input: "x" input_shape { dim: 2 dim: 1000 } ' + " ".join(layers))
    return read(path)


def test_arrays_are_streamed(tmp_path):
    graph = inner_products(["a", "b"], tmp_path)
    tracemalloc.start()
    write_caffemodel(graph, tmp_path / "o.caffemodel")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert (tmp_path / "o.caffemodel").stat().st_size > 8_000_000


def test_two_layers_of_one_name(tmp_path):
    graph = inner_products(["a", "a"], tmp_path)
    with pytest.raises(ArtefactError, match="2 layers with weights are called 'a'"):
        write_caffemodel(graph, tmp_path / "o.caffemodel")


def test_net_beyond_the_limit_of_protobuf(tmp_path, monkeypatch):
    graph = read(*files_of("ip_4d"))
    _, path = write(graph, tmp_path)
    size = path.stat().st_size
    path.unlink()
    monkeypatch.setattr(module, "MAX_BYTES", size)
    write(graph, tmp_path)
    path.unlink()
    monkeypatch.setattr(module, "MAX_BYTES", size - 1)
    with pytest.raises(ArtefactError, match=rf"o\.caffemodel: the net takes {size} bytes"):
        write(graph, tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("with_prototxt", [False, True])
def test_the_record_of_the_input_comes_back(tmp_path, with_prototxt):
    record = Preprocessing(crop_size=7, mean=(3.0, 5.0, 7.0), scale=0.5, mirror=True)
    graph = replace(read(*files_of("relu")), preprocessing=record)
    model, prototxt = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    write_caffemodel(graph, model, prototxt)
    again = caffe2torch.read(model, prototxt if with_prototxt else None)
    assert again.preprocessing == record
    assert again.definition == graph.definition


@pytest.mark.parametrize("change", [{"channel_order": "RGB"}, {"std": (2.0,)}])
def test_an_input_without_words_in_caffe_is_refused(tmp_path, change):
    graph = replace(read(*files_of("relu")), preprocessing=Preprocessing(**change))
    with pytest.raises(ArtefactError, match="Caffe feeds blue first"):
        write_caffemodel(graph, tmp_path / "net.caffemodel")
    assert not list(tmp_path.iterdir())
