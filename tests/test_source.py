"""Emitted PyTorch source: the same numbers as the plain conversion, whatever the names are."""

from __future__ import annotations

import ast
import importlib.util
import random
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support import CASES, genuine

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.cli import main
from caffe2torch.layers import Layer, all_layers, register_layer
from caffe2torch.lower import runtime_code
from caffe2torch.lower.expression import quote, text_of
from caffe2torch.lower.python_names import class_name, legible, variable
from caffe2torch.lower.to_source import IMPORTS, to_source
from caffe2torch.lower.to_torch import to_torch


def emitted(graph: caffe2torch.Graph, folder: Path) -> ModuleType:
    write_graph(graph, folder / "net.py")
    return imported(folder / "net.py")


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("emitted", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_same(graph: caffe2torch.Graph, folder: Path, batches: tuple[int, ...] = (1, 3)) -> None:
    """The source gives the very numbers of the plain conversion, for several batch sizes."""
    net, plain = emitted(graph, folder).load(), to_torch(graph)
    assert net.state_dict().keys() == plain.state_dict().keys()
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        inputs = {
            i.name: torch.rand((batch, *i.shape[1:]), generator=generator) * 2 - 1
            for i in graph.inputs
        }
        with torch.no_grad():
            expected, result = plain(inputs), net(*inputs.values())
        if isinstance(expected, torch.Tensor):
            expected, result = {"": expected}, {"": result}
        assert list(result) == list(expected)
        for blob, value in expected.items():
            assert torch.equal(result[blob], value), blob


def read_net(folder: Path, text: str, name: str = "net") -> caffe2torch.Graph:
    (folder / "net.prototxt").write_text(f"name: {quote_proto(name)}\n{text}")
    with warnings.catch_warnings():
        # Weights are missing: the fillers' values do.
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        return caffe2torch.read(None, folder / "net.prototxt", allow_missing=True)


def quote_proto(text: str) -> str:
    return '"' + "".join(f"\\{byte:03o}" for byte in text.encode()) + '"'


def layer(type_: str, name: str, bottoms: list[str], tops: list[str], more: str = "") -> str:
    fields = [f"name: {quote_proto(name)} type: '{type_}'"]
    fields += [f"bottom: {quote_proto(blob)}" for blob in bottoms]
    fields += [f"top: {quote_proto(blob)}" for blob in tops]
    return f"layer {{ {' '.join(fields)} {more} }}\n"


def data(shape: str = "dim: 2 dim: 6 dim: 5 dim: 7", name: str = "data") -> str:
    return layer("Input", "in", [], [name], f"input_param {{ shape {{ {shape} }} }}")


def ruff(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["ruff", *arguments, "net.py"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


CONVOLUTION = (
    "convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: 'gaussian' } }"
)
HOSTILE = [
    "import os; os.mkdir('hostile')",
    '"""\nimport os\nos.mkdir("hostile")\n"""',
    "'\"\\",
    'a"b',
    "self",
    "class",
    "1x1",
    "torch",
    "x.y/1x1/z",
    "keys/1x1",
    "keys/keys",
    "__init__",
    "__secret",
    "\ufb01ne",
    "\u202etxet",
    "a" * 200,
    "Ω",
    "forward",
    "{x}",
    "conv\r\nreturn",
    "print",
    "load",
    "scale",
    "F",
    "weight",
    "conv/weight",
    "conv",
]


def test_names_never_become_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, blob = data(name="import"), "import"
    for name in HOSTILE:
        text += layer("Convolution", name, [blob], [name], CONVOLUTION)
        text += layer("ReLU", f"{name}/relu", [name], [name])
        text += layer("Scale", f"{name}'s", [name], [f"{name}_"], "scale_param { bias_term: true }")
        blob = f"{name}_"
    text += layer("Slice", "cut", [blob], ["def", '"""', "def "])
    graph = read_net(tmp_path, text, '"""\nimport os\nos.mkdir("hostile")')
    check_same(graph, tmp_path)
    assert not (tmp_path / "hostile").exists()
    source = (tmp_path / "net.py").read_text()
    assert source.isascii()
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert "os" not in names
    ruff(tmp_path, "check", "--isolated")


@pytest.mark.parametrize("seed", range(30))
def test_variables_hold_what_the_blobs_do(tmp_path: Path, seed: int) -> None:
    """Nets of layers in place, forks and names that are one identifier."""
    rng = random.Random(seed)
    names = ["a", "A", "a/", "a-", "b", "b_2", "b 2", "_", "sum"]
    text, blobs = data(), ["data"]
    for index in range(25):
        bottom, other = rng.choice(blobs), rng.choice(blobs)
        fresh = rng.choice(names) + rng.choice(["", "_", "/2"])
        kind = rng.choice(["ReLU", "Power", "Dropout", "Split", "Eltwise", "Slice"])
        bottoms, tops, more = [bottom], [bottom if rng.random() < 0.6 else fresh], ""
        added = ""
        if kind == "Power":
            more = f"power_param {{ scale: {rng.choice(['1', '-0.7'])} shift: -0.1 }}"
        elif kind == "Eltwise":
            bottoms, tops = [bottom, other], [fresh]
            more = f"eltwise_param {{ operation: {rng.choice(['SUM', 'PROD', 'MAX'])} }}"
        elif kind == "Split":
            tops = [fresh, f"{fresh}'"]
        elif kind == "Slice":
            added = layer("Concat", f"cat{index}", [bottom, other], [f"cat{index}"])
            bottoms, tops = [f"cat{index}"], [fresh, f"{fresh}'"]
        added += layer(kind, f"l{index}", bottoms, tops, more)
        try:
            read_net(tmp_path, text + added)
        except caffe2torch.Caffe2TorchError:
            continue  # Caffe refuses some of these nets.
        text += added
        blobs += [top for top in tops if top not in blobs]
    check_same(read_net(tmp_path, text), tmp_path, batches=(2,))
    ruff(tmp_path, "format", "--isolated", "--check")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_genuine_squeezenet(tmp_path: Path, version: str) -> None:
    model = genuine("MODELS") / f"squeezenet_v{version}" / f"squeezenet_v{version}.caffemodel"
    graph = caffe2torch.read(model)
    check_same(graph, tmp_path)
    source = (tmp_path / "net.py").read_text()
    assert "self.fire2.squeeze1x1 = nn.Conv2d(" in source
    assert "F.relu(self.fire2.squeeze1x1(pool1))" in source
    assert str(graph.source_sha256) in source
    assert "BGR, less the mean (104, 117, 123)" in source


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sr", "detect"])
def test_genuine_qr_nets(tmp_path: Path, name: str) -> None:
    folder = genuine("MODELS") / "wechat_qr"
    graph = caffe2torch.read(folder / f"{name}.caffemodel", folder / f"{name}.prototxt")
    check_same(graph, tmp_path, batches=(1, 2))


def test_folded_input(tmp_path: Path) -> None:
    model = genuine("MODELS") / "squeezenet_v1.1" / "squeezenet_v1.1.caffemodel"
    caffe2torch.convert(model, tmp_path / "net.py", input="rgb01")
    plain = caffe2torch.load(model, input="rgb01")
    module = imported(tmp_path / "net.py")
    x = torch.rand(2, 3, 227, 227, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module.load()(x), plain(x))
    assert "channels in the order RGB" in " ".join((tmp_path / "net.py").read_text().split())


def test_the_file_runs_by_itself(tmp_path: Path) -> None:
    case = CASES / "net_vgg_block"
    arguments = [str(case / "net.caffemodel"), str(tmp_path / "net.py")]
    done = CliRunner().invoke(
        main, ["convert", *arguments, "--prototxt", str(case / "net.prototxt")]
    )
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.py", "net.weights.pt"]
    block = "import sys, runpy; sys.modules['caffe2torch'] = None; "
    run = f"{block}runpy.run_path({str(tmp_path / 'net.py')!r}, run_name='__main__')"
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", run], capture_output=True, text=True, check=True
    )
    shapes = caffe2torch.read(case / "net.caffemodel", case / "net.prototxt").shapes
    assert shown.stdout.strip() in {str(shape) for shape in shapes.values()}


def test_the_weights_file_is_an_artefact(tmp_path: Path) -> None:
    case = CASES / "net_inception_block"
    graph = caffe2torch.read(case / "net.caffemodel", case / "net.prototxt")
    write_graph(graph, tmp_path / "net.py")
    again = caffe2torch.read(tmp_path / "net.weights.pt")
    assert again.params.keys() == graph.params.keys()
    assert again.source_sha256 == graph.source_sha256


def test_the_same_net_gives_the_same_bytes(tmp_path: Path) -> None:
    case = CASES / "net_unet"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        graph = caffe2torch.read(case / "net.caffemodel", case / "net.prototxt")
        write_graph(graph, tmp_path / folder / "net.py")
    for name in ("net.py", "net.weights.pt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    named = CONVOLUTION + " param { name: 'w' } param { name: 'b' }"
    text = data() + layer("Convolution", "one", ["data"], ["x"], named)
    text += layer("Convolution", "b/1x1", ["x"], ["y"], named)
    graph = read_net(tmp_path, text)
    check_same(graph, tmp_path)
    net = emitted(graph, tmp_path).load()
    assert net.one.weight is net.b["1x1"].weight


def test_batch_norm_learns_as_the_plain_conversion(tmp_path: Path) -> None:
    text = data() + layer("BatchNorm", "bn", ["data"], ["y"])
    graph = read_net(tmp_path, text)
    net, plain = emitted(graph, tmp_path).load().train(), to_torch(graph).train()
    x = torch.rand(4, 6, 5, 7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(x), plain(x))
    for key, value in plain.state_dict().items():
        assert torch.equal(net.state_dict()[key], value)
    assert net.state_dict()["bn.scale_factor"] == 1


def test_long_statements_are_wrapped(tmp_path: Path) -> None:
    names = [f"a_rather_long_name_of_a_blob_{i}" for i in range(9)]
    text = data()
    for name in names:
        text += layer("Power", name, ["data"], [name], "power_param { power: 2 }")
    text += layer("Concat", "cat", names, ["cat"])
    text += layer("Eltwise", "sum", names, ["sum"])
    text += layer("Eltwise", "max", names, ["max"], "eltwise_param { operation: MAX }")
    text += layer("Slice", "cut", ["sum"], [f"part_{name}" for name in names[:6]])
    check_same(read_net(tmp_path, text), tmp_path)
    ruff(tmp_path, "format", "--isolated", "--check")
    ruff(tmp_path, "check", "--isolated")


def test_dead_layers_keep_their_weights(tmp_path: Path) -> None:
    text = data() + layer("Convolution", "unread", ["data"], ["x"], CONVOLUTION)
    text += layer("Silence", "hush", ["x"], [])
    text += layer("ReLU", "relu", ["data"], ["y"])
    check_same(read_net(tmp_path, text), tmp_path)
    assert "self.unread(" not in (tmp_path / "net.py").read_text()


@dataclass(frozen=True)
class ByValue(Layer):
    """y = x if all of x is positive, else -x: a decision that no expression can hold."""

    type = "ByValue"

    def to_torch(self, t: Any, inputs: Any, bottoms: Any) -> Any:
        return inputs[0] if (inputs[0] > 0).all() else -inputs[0]


def test_a_layer_without_a_source_form_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffe2torch.layers._registry", dict(all_layers()))
    register_layer()(ByValue)
    graph = read_net(tmp_path, data() + layer("ByValue", "choice", ["data"], ["y"]))
    with pytest.raises(caffe2torch.UnsupportedLayerError, match=r"convert to \.pt") as caught:
        write_graph(graph, tmp_path / "net.py")
    assert (caught.value.layer, caught.value.type) == ("choice", "ByValue")
    assert not (tmp_path / "net.py").exists()
    assert not (tmp_path / "net.weights.pt").exists()


def test_runtime_code_uses_what_emitted_files_import() -> None:
    known = {name for name, _ in IMPORTS} | {"annotations"}
    defined: list[str] = []
    for path in Path(str(runtime_code.files(runtime_code.PACKAGE))).glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                own = isinstance(node, ast.ImportFrom) and "_runtime" in str(node.module)
                names = {alias.asname or alias.name for alias in node.names}
                assert own or names <= known, path.name
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.append(node.name)
    assert len(defined) == len(set(defined))


def test_identifiers_and_literals() -> None:
    assert variable("fire2/squeeze1x1") == "fire2_squeeze1x1"
    assert variable("1x1") == "blob_1x1"
    assert variable("") == "blob"
    assert variable("sum") == "sum_"
    assert class_name("SqueezeNet_v1.1") == "SqueezeNetV1_1"
    assert class_name("") == "Net"
    assert class_name("tensor") == "TensorNet"
    assert legible('a"""\nb') == "a????b"
    assert text_of(float(np.float32(1e-5))) == "1e-05"
    assert text_of(float("inf")) == "math.inf"
    assert text_of((3,)) == "(3,)"
    for text in ("", 'a"b', "a'b", "a\\", "\n\r\x00", "é\u2028\U0001f600", "'\""):
        assert ast.literal_eval(quote(text)) == text
        assert quote(text).isascii()


def test_source_needs_no_weights(tmp_path: Path) -> None:
    graph = read_net(tmp_path, data() + layer("ReLU", "relu", ["data"], ["y"]))
    assert "y = F.relu(data)" in to_source(graph)
    check_same(graph, tmp_path)


def test_a_call_is_written_once(tmp_path: Path) -> None:
    text = data() + layer("Convolution", "conv", ["data"], ["x"], CONVOLUTION)
    text += layer("Swish", "swish", ["x"], ["x"])
    check_same(read_net(tmp_path, text), tmp_path)
    assert (tmp_path / "net.py").read_text().count("self.conv(") == 1


def test_a_version_of_a_blob_that_is_read_later_is_kept(tmp_path: Path) -> None:
    text = data() + layer("ReLU", "relu", ["data"], ["old"])
    text += layer("Power", "power", ["old"], ["new"], "power_param { shift: 1 }")
    text += layer("Eltwise", "sum", ["old", "new"], ["sum"])
    graph = read_net(tmp_path, text)
    versions = {"old": "new@relu"}
    nodes = tuple(
        replace(
            node,
            inputs=tuple(versions.get(value, value) for value in node.inputs),
            outputs=tuple(versions.get(value, value) for value in node.outputs),
        )
        for node in graph.nodes
    )
    renamed = replace(
        graph,
        nodes=nodes,
        shapes={versions.get(value, value): shape for value, shape in graph.shapes.items()},
        blobs={blob: versions.get(value, value) for blob, value in graph.blobs.items()},
    )
    check_same(renamed, tmp_path)
    assert "new_2 = new + 1.0" in (tmp_path / "net.py").read_text()


def test_half_precision_weights(tmp_path: Path) -> None:
    case = CASES / "net_vgg_block"
    prototxt, model = case / "net.prototxt", case / "net.caffemodel"
    for suffix in (".pt", ".py"):
        caffe2torch.convert(model, tmp_path / f"net{suffix}", prototxt, half=True)
    state = torch.load(tmp_path / "net.weights.pt", weights_only=True)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float16}
    module = imported(tmp_path / "net.py")
    with pytest.warns(caffe2torch.Caffe2TorchWarning, match="half precision"):
        plain = caffe2torch.load(tmp_path / "net.pt")
    for key, value in plain.state_dict().items():
        assert torch.equal(module.load().state_dict()[key], value)
