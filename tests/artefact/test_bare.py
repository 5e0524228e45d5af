"""A bare state_dict, which torch and safetensors load without caffe2torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from golden import Case
from safetensors.torch import load_file
from support import CASE_NAMES, CASES

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError
from caffe2torch.lower.to_torch import to_torch

NET = CASES / "net_squeezenet_v1_1"
SHARED = "net_siamese"
"""Its two branches share their weights."""


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_it_is_the_state_of_the_module(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bare{suffix}"
    for name in [*CASE_NAMES[::9], SHARED]:
        case = Case(CASES / name)
        if case.refused_by_caffe:
            continue
        graph = case.read()
        write_graph(graph, path, bare=True)
        state = load_file(path) if suffix != ".pt" else torch.load(path, weights_only=True)
        module, expected = to_torch(graph), to_torch(graph).state_dict()
        for array in module.state_dict().values():
            array.zero_()
        module.load_state_dict(state)
        assert state.keys() == expected.keys(), name
        for key, array in expected.items():
            assert torch.equal(state[key], array), (name, key)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_readers_refuse_it_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bare{suffix}"
    write_graph(Case(NET).read(), path, bare=True)
    with pytest.raises(
        ArtefactError, match=r"is a bare state_dict, .* convert that without --bare"
    ):
        caffe2torch.read(path)


@pytest.mark.parametrize("half", [False, True])
def test_an_array_that_layers_share_is_there_once(tmp_path: Path, half: bool) -> None:
    graph = Case(CASES / SHARED).read()
    write_graph(graph, tmp_path / "bare.pt", bare=True, half=half)
    state = torch.load(tmp_path / "bare.pt", weights_only=True)
    assert len(state) > len(graph.params)
    assert len({array.data_ptr() for array in state.values()}) == len(graph.params)


def test_the_command_and_a_program_with_torch_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.pt"
    arguments = ["convert", str(NET / "net.caffemodel"), str(path), "--bare"]
    result = CliRunner().invoke(main, [*arguments, "--prototxt", str(NET / "net.prototxt")])
    assert result.exit_code == 0, result.output
    program = f"""import sys; sys.modules["caffe2torch"] = None
import torch; print(*torch.load({str(path)!r}, weights_only=True)["conv1.weight"].shape)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "8 3 3 3\n", done.stderr
    with pytest.raises(ArtefactError):
        caffe2torch.read(path)


def test_other_kinds_of_file_have_no_bare_form(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"onnx file has no 'bare'.* for \.pt, \.safetensors"):
        caffe2torch.convert(
            NET / "net.caffemodel", tmp_path / "a.onnx", NET / "net.prototxt", bare=True
        )
