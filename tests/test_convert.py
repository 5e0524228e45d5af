"""The main job on genuine weights and on small nets: convert, load again, same tensors."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from support import CASES, assert_close, genuine_squeezenet, onnx_session, run_onnx

import caffe2torch
from squeezenet import SqueezeNet, load_pretrained

NET = CASES / "net_resnet_block"
MODEL, PROTOTXT = NET / "net.caffemodel", NET / "net.prototxt"


def squeezenet(version: str) -> tuple[Path, Path]:
    model = genuine_squeezenet(version)
    return model, model.with_name("deploy.prototxt")


def net_input() -> torch.Tensor:
    with np.load(NET / "io.npz") as file:
        return torch.from_numpy(file["in/data"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_artefact_loads_as_the_same_module(tmp_path: Path, suffix: str) -> None:
    path = caffe2torch.convert(MODEL, tmp_path / f"net{suffix}", PROTOTXT)
    first, again = caffe2torch.load(MODEL, PROTOTXT), caffe2torch.load(path)
    torch.testing.assert_close(again(net_input()), first(net_input()), rtol=0, atol=0)
    assert again.output_names == first.output_names


def test_an_artefact_converts_to_the_same_onnx(tmp_path: Path) -> None:
    direct = caffe2torch.convert(MODEL, tmp_path / "a.onnx", PROTOTXT)
    pt = caffe2torch.convert(MODEL, tmp_path / "b.pt", PROTOTXT)
    through = caffe2torch.convert(pt, tmp_path / "b.onnx")
    assert direct.read_bytes() == through.read_bytes()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    written = []
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}{suffix}"
        files = f"{str(MODEL)!r}, {str(target)!r}, {str(PROTOTXT)!r}"
        code = f"import caffe2torch; caffe2torch.convert({files})"
        subprocess.run(
            [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        written.append(target.read_bytes())
    assert written[0] == written[1]


def test_the_onnx_file_is_valid_named_and_dynamic(tmp_path: Path) -> None:
    path = caffe2torch.convert(MODEL, tmp_path / "net.onnx", PROTOTXT)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnx_session(path)
    graph = caffe2torch.read(MODEL, PROTOTXT)
    assert [i.name for i in session.get_inputs()] == [i.name for i in graph.inputs]
    assert [o.name for o in session.get_outputs()] == list(graph.outputs)
    larger = torch.cat([net_input(), net_input().flip(0), net_input()])
    expected = caffe2torch.load(MODEL, PROTOTXT)(larger).detach().numpy()
    (value,) = run_onnx(session, larger.numpy()).values()
    assert_close(value, expected, 1e-5)


def test_a_failed_conversion_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.pt"
    target.write_bytes(b"old")
    broken = tmp_path / "broken.caffemodel"
    broken.write_bytes(MODEL.read_bytes()[:-10])
    with pytest.raises(caffe2torch.ReadError):
        caffe2torch.convert(broken, target, PROTOTXT)
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.caffemodel", "out.pt"]


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(caffe2torch.ArtefactError, match=r"use one of \.onnx, \.pt, \.py, \.saf"):
        caffe2torch.convert(MODEL, "net.h5", PROTOTXT)


def test_weights_of_another_net_are_refused_with_both_shapes() -> None:
    case = CASES / "err_weights_shape_mismatch"
    with pytest.raises(caffe2torch.WeightsError, match=r"\(5, 3, 3, 3\).*\(4, 3, 3, 3\)"):
        caffe2torch.read(case / "net.caffemodel", case / "net.prototxt")


def test_a_missing_layer_is_refused_or_allowed() -> None:
    case = CASES / "weights_missing_layer_keeps_filler"
    files = (case / "net.caffemodel", case / "net.prototxt")
    with pytest.raises(caffe2torch.WeightsError, match="--allow-missing"):
        caffe2torch.read(*files)
    with pytest.warns(caffe2torch.Caffe2TorchWarning, match="fc1"):
        caffe2torch.read(*files, allow_missing=True)


def test_unused_weights_warn_or_fail() -> None:
    case = CASES / "weights_extra_layers_ignored"
    files = (case / "net.caffemodel", case / "net.prototxt")
    with pytest.warns(caffe2torch.Caffe2TorchWarning, match="does not have"):
        caffe2torch.read(*files)
    with pytest.raises(caffe2torch.WeightsError, match="does not have"):
        caffe2torch.read(*files, strict=True)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_caffemodel_alone_gives_the_tensors_of_its_deploy_net(
    version: str, tmp_path: Path
) -> None:
    model, deploy = squeezenet(version)
    alone = load_file(caffe2torch.convert(model, tmp_path / "a.safetensors"))
    both = load_file(caffe2torch.convert(model, tmp_path / "b.safetensors", deploy))
    assert alone.keys() == both.keys()
    for key, array in alone.items():
        np.testing.assert_array_equal(array, both[key])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_squeezenet_is_recognised(version: str, suffix: str, tmp_path: Path) -> None:
    model, _ = squeezenet(version)
    path = caffe2torch.convert(model, tmp_path / f"any_name{suffix}")
    net = load_pretrained(version, weights=path)
    assert isinstance(net, SqueezeNet)
    image = torch.randn(2, 3, 227, 227, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        expected = caffe2torch.load(model)(image).flatten(1)
        torch.testing.assert_close(net.eval()(image), expected, rtol=0, atol=1e-4)


def test_a_snapshot_records_its_preprocessing() -> None:
    model, _ = squeezenet("1.1")
    record = caffe2torch.read(model).preprocessing
    assert record is not None
    assert (record.crop_size, record.mean) == (227, (104.0, 117.0, 123.0))


def test_pt_loads_without_code(tmp_path: Path) -> None:
    path = caffe2torch.convert(MODEL, tmp_path / "net.pt", PROTOTXT)
    content = torch.load(path, weights_only=True)
    assert set(content) == {"metadata", "state_dict"}


def test_light_imports(tmp_path: Path) -> None:
    code = f"""
import sys
import warnings
import caffe2torch, caffe2torch.cli
heavy = {{"torch", "onnx", "onnxruntime", "cv2"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for suffix in (".onnx", ".safetensors"):
    caffe2torch.convert({str(MODEL)!r}, {str(tmp_path / "x")!r} + suffix, {str(PROTOTXT)!r})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_can_be_copied_and_pickled() -> None:
    module = caffe2torch.load(MODEL, PROTOTXT)
    expected = module(net_input())
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(copied(net_input()), expected, rtol=0, atol=0)


def test_a_module_is_a_real_module() -> None:
    module = caffe2torch.load(MODEL, PROTOTXT)
    assert {name for name, _ in module.named_parameters()} >= {"conv1.weight"}
    blobs = module.blobs(net_input())
    assert set(module.output_names) <= set(blobs)
    module(net_input()).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    with pytest.raises(caffe2torch.NetError, match="'image' is unknown"):
        module({"data": net_input(), "image": net_input()})


def test_torch_exports_and_traces_the_module(tmp_path: Path) -> None:
    module, x = caffe2torch.load(MODEL, PROTOTXT), net_input()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of both tools.
        torch.onnx.export(
            module,
            (x,),
            tmp_path / "net.onnx",
            dynamo=False,
            input_names=["data"],
            dynamic_axes={"data": {0: "N"}},
        )
        traced = torch.jit.trace(module, x)
    (exported,) = run_onnx(tmp_path / "net.onnx", x.numpy()).values()
    expected = module(x).detach()
    torch.testing.assert_close(torch.from_numpy(exported), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(traced(x), expected, rtol=1e-5, atol=1e-6)


WINDOWS = """
input: "a" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }
input: "b" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }
layer { name: "c" type: "Convolution" bottom: "a" bottom: "b" top: "y" top: "z"
  convolution_param { num_output: 2 kernel_size: 5 } }
"""


@pytest.mark.parametrize(
    ("shapes", "cause"),
    [
        ([(1, 3, 3, 3)] * 2, "kernel_size: the kernel does not fit the padded bottom"),
        ([(1, 3, 9, 9), (1, 3, 3, 3)], ": all bottoms must have one shape"),
        ([(1, 4, 9, 9)] * 2, "need a weight of shape (2, 4, 5, 5); it has (2, 3, 5, 5)"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_the_layer(
    tmp_path: Path, shapes: list[tuple[int, ...]], cause: str
) -> None:
    (tmp_path / "n.prototxt").write_text(WINDOWS)
    with pytest.warns(caffe2torch.Caffe2TorchWarning):
        module = caffe2torch.load(None, tmp_path / "n.prototxt", allow_missing=True)
    with pytest.raises(caffe2torch.NetError) as caught:
        module(dict(zip("ab", map(torch.zeros, shapes), strict=True)))
    line = 5 if "kernel_size" in cause else 4
    assert str(caught.value).startswith(f"{tmp_path / 'n.prototxt'}:{line}:")
    assert "layer 'c' (Convolution)" in str(caught.value)
    assert cause in str(caught.value)
