"""Engines that run by name: each computes what genuine Caffe did, or says that it is not there."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from golden import Case, table
from running.nets import working_in
from support import CASE_NAMES, CASES, NEAR_ZERO, OF_NET, assert_close, recorded

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.engines import Job, engine_names, register_engine, start_engine
from caffe2torch.engines.torch import TorchEngine
from caffe2torch.errors import EngineError, NotInstalledError, UnsupportedLayerError

NET = CASES / "net_squeezenet_v1_1"
FILES = NET / "net.caffemodel", NET / "net.prototxt"
COMMAND = ["parity", str(FILES[0]), "--prototxt", str(FILES[1]), "--random", "1"]
EXACT = ("openvino", "source", "torch-float64", "torch-export", "torch-trace")
REFUSED = {
    "source": {"infogain_source_file"},
    "torch-export": {"infogain_source_file"},
    "torch-trace": set[str](),
    "torch-float64": set[str](),
    "openvino": set[str](),
}
"""Recorded nets that an engine does not take."""
NETS = [name for name in CASE_NAMES if not name.startswith("qr_")]
"""Those whose weights are beside them."""
SOME = NETS[::25]
"""Of every kind one, as their names begin with the layer."""


def compared(engine: str, names: list[str]) -> dict[str, list[str]]:
    """What ``engine`` makes wrong of the recorded nets ``names``, and which it refuses."""
    found: dict[str, list[str]] = {}
    for name in names:
        case = Case(CASES / name)
        graph = None if case.refused_by_caffe else case.read()
        if graph is None or not graph.outputs:
            continue
        record = recorded(name)
        inputs = {i.name: record.inputs[i.name] for i in graph.inputs}
        try:
            with working_in(CASES / name):
                blobs = start_engine(engine, Job(graph, every_blob=False)).run(inputs)
            for blob in set(graph.outputs) - inputs.keys():
                expected = record.outputs[blob]
                value = blobs[blob].reshape(expected.shape)
                assert_close(value, expected, OF_NET, absolute=NEAR_ZERO, what=blob)
        except NotInstalledError as error:
            pytest.skip(str(error))
        except (EngineError, UnsupportedLayerError) as error:
            found[name] = [f"refused: {error}"]
        except (AssertionError, ValueError) as error:
            found[name] = [str(error)]
    return found


@pytest.mark.parametrize("engine", EXACT)
def test_an_engine_computes_what_caffe_did(engine: str) -> None:
    found = compared(engine, SOME)
    assert found.keys() == REFUSED[engine] & set(SOME), table(found)


@pytest.mark.slow
@pytest.mark.parametrize("engine", EXACT)
def test_an_engine_computes_all_that_caffe_did(engine: str) -> None:
    names = thrice_each_type() if engine == "torch-export" else NETS
    found = compared(engine, names)
    assert found.keys() == REFUSED[engine], table(found)


def thrice_each_type() -> list[str]:
    """Nets that have each layer type three times, or as often as there are nets with it.

    An export takes a third of a second; what it exports, the other engines run on every net.
    """
    counts, chosen = Counter[str](), []
    for name in NETS:
        case = Case(CASES / name)
        types = set() if case.refused_by_caffe else {n.layer.type for n in case.read().nodes}
        if any(counts[kind] < 3 for kind in types):
            chosen.append(name)
            counts.update(types)
    return chosen


@pytest.mark.parametrize("engine", [*EXACT, "opencv-onnx"])
def test_an_engine_shows_blobs_of_batches_of_any_size(engine: str) -> None:
    graph = caffe2torch.read(*FILES)
    (declared,) = graph.inputs
    rng = np.random.default_rng(3)
    try:
        started = start_engine(engine, Job(graph))
    except NotInstalledError as error:
        pytest.skip(str(error))
    plain = start_engine("torch", Job(graph))
    for size in (1, 3):
        data = rng.standard_normal((size, *declared.shape[1:]), np.float32)
        found, expected = started.run({declared.name: data}), plain.run({declared.name: data})
        assert set(graph.outputs) <= set(found)
        assert engine == "source" or len(found) > 30
        for blob, value in found.items():
            assert_close(value, expected[blob], OF_NET, what=f"{engine} {blob}")


def test_all_engines_run_or_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # As if it were not installed.
    result = CliRunner().invoke(main, [*COMMAND, "--engine", "all"])
    assert result.exit_code == 0, result.output
    assert "openvino was skipped: OpenVINO is not installed: pip install" in result.output
    for name in engine_names():
        assert (
            name == "torch" or f"{name} / torch" in result.output or f"{name} was" in result.output
        )
    for name in ("source", "torch-float64", "torch-export", "torch-trace", "opencv-onnx"):
        assert f"{name} / torch" in result.output


def test_an_engine_that_is_named_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = CliRunner().invoke(main, [*COMMAND, "--engine", "torch", "--engine", "openvino"])
    assert result.exit_code == 2
    advice = "pip install 'caffe2torch[openvino]'"
    assert result.output == f"Error: OpenVINO is not installed: {advice}\n"
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(NotInstalledError, match="has no CUDAExecutionProvider: pip install onnx"):
        caffe2torch.check_parity(*FILES, engines=("torch", "onnxruntime-cuda"))


class Bfloat16(TorchEngine):
    """torch in bfloat16; ``wrong`` is added to the outputs of one layer."""

    wrong = 0.0

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.module.bfloat16()
        for name, array in self.module.named_parameters():
            if name == "fire4.expand3x3.bias":  # It is not in every part that bisect runs.
                array.data += self.wrong

    def fed(self, array: Any) -> torch.Tensor:
        return super().fed(array).bfloat16()

    def array(self, tensor: torch.Tensor) -> Any:
        return super().array(tensor.float())


class Stated(Bfloat16):
    """It says what it computes in."""

    precision = "bfloat16"


class Wrong(Stated):
    """It has a fault besides."""

    wrong = 3.0


def test_an_engine_of_less_precision_is_judged_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine_names()
    monkeypatch.setattr("caffe2torch.engines._registry", dict(caffe2torch.engines._registry))
    for name, kind in (("silent", Bfloat16), ("stated", Stated), ("wrong", Wrong)):
        register_engine(name)(kind)
    engines = ("torch", "silent", "stated", "wrong")
    report = caffe2torch.check_parity(*FILES, random=1, engines=engines, bisect=tmp_path)
    silent, stated, wrong = report.comparisons
    assert not silent.passed
    assert stated.passed
    assert wrong.first_divergence == "fire4/expand3x3"
    assert report.to_dict()["precisions"] == {"stated": "bfloat16", "wrong": "bfloat16"}
    assert "stated as bfloat16 rounds" in stated.verdicts["conv1"].reason
    found = caffe2torch.check_parity(
        *FILES, random=1, engines=("torch", "wrong"), bisect=tmp_path / "wrong"
    ).bisection
    assert found is not None
    assert [name for name, _ in found.layers] == ["fire4/expand3x3"]
