"""Nets of a few bytes that ask for terabytes or for ever: refused, or converted at once."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.errors import Caffe2TorchError
from caffe2torch.io import prototxt
from caffe2torch.layers import all_layers
from caffe2torch.lower.to_onnx import to_onnx
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.naming import MOST_PARTS, module_keys

INPUT = 'input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'
MAX_SECONDS = 10.0
"""Of CPU time: each takes well under one, on any machine."""
MAX_MEMORY = 200 << 20


def layer(kind: str, parameters: str = "", bottoms: str = 'bottom: "x"') -> str:
    return f'layer {{ name: "l" type: "{kind}" {bottoms} top: "y" {parameters} }}\n'


HUGE = {
    "input of 10**10 values": 'input: "x" input_shape { dim: 1 dim: 100000 dim: 100000 }\n'
    + layer("ReLU"),
    "input of 2**63 values": 'input: "x" input_shape { dim: 1 dim: 9223372036854775807 }\n'
    + layer("ReLU"),
    "convolution of 2**31 - 1": INPUT
    + layer("Convolution", "convolution_param { num_output: 2147483647 kernel_size: 3 }"),
    "kernel of 10**9": INPUT
    + layer("Convolution", "convolution_param { num_output: 1 kernel_size: 1000000000 }"),
    "kernel of 10**9 that fits": INPUT
    + layer(
        "Convolution",
        "convolution_param { num_output: 1 kernel_size: 1000000000 pad: 1000000000 }",
    ),
    "pad of 10**9": INPUT + layer("Pooling", "pooling_param { kernel_size: 2 pad: 1000000000 }"),
    "tiles": INPUT + layer("Tile", "tile_param { tiles: 1000000000 }"),
    "reshape": INPUT
    + layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 1000000000 } }"),
    "reshape to 2**64": INPUT
    + layer(
        "Reshape",
        "reshape_param { shape { dim: 4294967296 dim: 4294967296 dim: 4294967296 } }",
    ),
    "dummy data": layer(
        "DummyData", "dummy_data_param { shape { dim: 1000000 dim: 1000000 } }", ""
    ),
    "inner product": INPUT
    + layer("InnerProduct", "inner_product_param { num_output: 1000000000 }"),
    "embed": INPUT
    + layer("Embed", "embed_param { num_output: 1000000 input_dim: 1000000 bias_term: false }"),
    "random filler": INPUT
    + layer(
        "InnerProduct",
        "inner_product_param { num_output: 1000000000 weight_filler { type: 'gaussian' } }",
    ),
    "prior box": 'input: "x" input_shape { dim: 1 dim: 1 dim: 8000 dim: 8000 }\n'
    + layer("PriorBox", "prior_box_param { min_size: 1 }", 'bottom: "x" bottom: "x"'),
    "average pool": 'input: "x" input_shape { dim: 1 dim: 1 dim: 40000 dim: 40000 }\n'
    + layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }"),
    "average pool of a line": 'input: "x" input_shape { dim: 1 dim: 1 dim: 1 dim: 2000000000 }\n'
    + layer("Pooling", "pooling_param { pool: AVE kernel_h: 1 kernel_w: 3 pad_w: 1 pad_h: 0 }"),
    "im2col": 'input: "x" input_shape { dim: 1 dim: 1 dim: 300 dim: 300 }\n'
    + layer("Im2col", "convolution_param { kernel_size: 290 }"),
    "spatial pyramid": INPUT + layer("SPP", "spp_param { pyramid_height: 1000000000 }"),
    "batch norm": 'input: "x" input_shape { dim: 1 dim: 2000000000 }\n' + layer("BatchNorm"),
    "lstm": 'input: "x" input_shape { dim: 1000000 dim: 1 dim: 1 }\n'
    'input: "c" input_shape { dim: 1000000 dim: 1 }\n'
    + layer(
        "LSTM",
        "recurrent_param { num_output: 1 weight_filler { type: 'constant' } }",
        'bottom: "x" bottom: "c"',
    ),
    "hinge loss": 'input: "x" input_shape { dim: 1 dim: 2000000000 }\n'
    'input: "t" input_shape { dim: 1 }\n' + layer("HingeLoss", "", 'bottom: "x" bottom: "t"'),
    "2000 slices": INPUT
    + 'layer { name: "l" type: "Slice" bottom: "x" '
    + "".join(f'top: "y{i}" ' for i in range(2000))
    + "slice_param { slice_point: 1 } }",
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", HUGE)
def test_a_net_that_asks_for_too_much(tmp_path: Path, name: str, missing: bool) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(HUGE[name])
    all_layers()
    began = time.process_time()
    tracemalloc.start()
    try:
        convert_all(path, tmp_path, missing)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - began < MAX_SECONDS
    assert peak < MAX_MEMORY


def convert_all(path: Path, folder: Path, missing: bool) -> None:
    try:
        graph = caffe2torch.read(None, path, allow_missing=missing)
    except Caffe2TorchError:
        return
    for lower in (to_torch, to_onnx):
        try:
            if sum(array.size for array in graph.params.values()) < 10**6:
                lower(graph)
        except Caffe2TorchError:
            continue
    if sum(array.size for array in graph.params.values()) < 10**6:
        write_graph(graph, folder / "o.safetensors")


def chain(count: int, name: str, in_place: bool = False) -> str:
    layers = []
    for i in range(count):
        bottom, top = ("x", "x") if in_place else ("x" if i == 0 else f"b{i - 1}", f"b{i}")
        layers.append(
            f'layer {{ name: "{name.format(i)}" type: "ReLU" bottom: "{bottom}" top: "{top}" }}\n'
        )
    return INPUT + "".join(layers)


MANY = {
    "one name": chain(800, "a"),
    "one name, in place": chain(800, "a", in_place=True),
    "slashes": chain(100, "a/" * 500 + "{}"),
    "one deep name": chain(1, "a/" * 100_000),
    "2000 tops": INPUT
    + 'layer { name: "s" type: "Split" bottom: "x" '
    + "".join(f'top: "t{i}" ' for i in range(2000))
    + "}",
    "2000 bottoms": INPUT
    + 'layer { name: "c" type: "Concat" top: "y" '
    + 'bottom: "x" ' * 2000
    + "}",
    "eltwise of itself": INPUT
    + "".join(
        f'layer {{ name: "e{i}" type: "Eltwise" bottom: "x" bottom: "x" top: "x" }}\n'
        for i in range(60)
    )
    + 'layer { name: "r" type: "Flatten" bottom: "x" top: "f" }\n'
    + 'layer { name: "s" type: "ReLU" bottom: "f" top: "f" }',
    "aspect ratios": INPUT
    + layer(
        "PriorBox",
        "prior_box_param { min_size: 1 "
        + "".join(f"aspect_ratio: {i} " for i in range(2, 4000))
        + "}",
        'bottom: "x" bottom: "x"',
    ),
}


@pytest.mark.parametrize("name", MANY)
def test_the_time_does_not_grow_with_the_square_of_the_net(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(MANY[name])
    all_layers()
    began = time.process_time()
    convert_all(path, tmp_path, False)
    assert time.process_time() - began < MAX_SECONDS


def test_module_paths_of_one_name_and_of_deep_names() -> None:
    keys = module_keys(["a"] * 1000 + ["b/" * 1000], [()] * 1001)
    assert keys[:3] == ["a", "a_", "a__"]
    assert len(set(keys)) == 1001
    assert max(map(len, keys[:-1])) < 12
    assert keys[-1].count(".") == MOST_PARTS - 1


TEXTS = {
    "open brackets": ("layer { " * 100_000, "nested too deeply"),
    "unknown fields in each other": ("foo { " * 100_000, "nested too deeply"),
    "lists in each other": ("foo: " + "[" * 100_000, "nested too deeply"),
    "unknown fields": (INPUT + "layer { " + "a: 1 " * 20_000 + "}", "unknown fields"),
    "blanks": ("name: 'x'" + " " * 1_000_000, "blanks in a row"),
    "layers": (INPUT + "layer { } " * 60_000, "20000 times 'layer'"),
    "backslashes": ('name: "' + "\\\\" * 100_000 + '"', "backslashes in a row"),
    "an open string": ('name: "' + "x" * 1_000_000, "not closed"),
    "a long number": ("layer { phase: " + "9" * 100_000 + " }", "not one of the values"),
    "a field twice": ("name: 'x' " * 20_000, "given twice"),
    "garbage": ("\x01\x02\xff" * 100_000, "1:1"),
    "words": ("garbage " * 100_000, "1:1"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_net(tmp_path: Path, name: str) -> None:
    text, cause = TEXTS[name]
    path = tmp_path / "net.prototxt"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(Caffe2TorchError) as caught:
        caffe2torch.read(None, path)
    assert time.process_time() - began < MAX_SECONDS
    assert cause in str(caught.value)


def test_a_prototxt_of_many_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.prototxt"
    with path.open("wb") as file:
        file.truncate(prototxt.MAX_BYTES + 1)
    with pytest.raises(Caffe2TorchError, match="a net's definition has fewer"):
        caffe2torch.read(None, path)


def test_a_circle_and_names_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "a" type: "ReLU" bottom: "b" top: "a" }\n'
        'layer { name: "b" type: "ReLU" bottom: "a" top: "b" }'
    )
    with pytest.raises(Caffe2TorchError, match=r"'a'.*reads the blob 'b'.*no layer before it"):
        caffe2torch.read(None, path)
    path.write_text(
        INPUT + layer("ReLU") + 'layer { name: "l" type: "Sigmoid" bottom: "x" top: "y" }'
    )
    with pytest.raises(Caffe2TorchError, match="another layer has written already"):
        caffe2torch.read(None, path)


def test_fillers_that_make_no_values(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    for filler in (
        "type: 'uniform' min: 1 max: 0",
        "type: 'uniform' min: nan",
        "type: 'gaussian' std: -1",
        "type: 'nothing'",
    ):
        path.write_text(
            INPUT
            + layer(
                "InnerProduct",
                f"inner_product_param {{ num_output: 2 weight_filler {{ {filler} }} }}",
            )
        )
        with pytest.raises(Caffe2TorchError, match="filler"):
            caffe2torch.read(None, path, allow_missing=True)


def test_parity_of_a_net_that_does_not_fit_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "x" input_shape { dim: 1 dim: 1 dim: 40000 dim: 40000 }\n' + layer("ReLU")
    )
    with pytest.raises(Caffe2TorchError, match="3,200,000,000 values together"):
        caffe2torch.check_parity(None, path)
