"""A recorded net through both lowerings: what differs from genuine Caffe, as one line a finding."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from running.nets import working_in
from support import NEAR_ZERO, OF_NET, recorded_in, run_onnx

import caffe2torch
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import CaffeModule, to_torch

ROUNDING = 20.0
"""How much further from Caffe a result may lie than float32 lies from float64 in torch: a blob
that cancels, or a logarithm near zero, makes rounding large, and each engine rounds otherwise."""


@dataclass(frozen=True)
class Case:
    """A folder with net.prototxt, case.json and, where Caffe ran the net, io.npz."""

    folder: Path

    @property
    def facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = json.loads((self.folder / "case.json").read_text())
        return facts

    @property
    def refused_by_caffe(self) -> bool:
        return bool(self.facts.get("expect", "ok") == "error")

    def read(self) -> caffe2torch.Graph:
        """The graph, read in the case's folder, where its relative paths lead."""
        facts = self.facts
        weights = self.folder / (facts.get("weights_file") or "net.caffemodel")
        with working_in(self.folder), warnings.catch_warnings():
            # Missing and unused weights are the point of some cases.
            warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
            return caffe2torch.read(
                weights if weights.exists() else None,
                self.folder / "net.prototxt",
                phase=facts.get("phase", "TEST"),
                level=facts.get("level", 0),
                stages=facts.get("stages", ()),
                allow_missing=True,
            )


def findings(case: Case) -> list[str]:
    """What is wrong with the conversion: nothing, a difference, a crash, a refusal."""
    try:
        if case.refused_by_caffe:
            return list(_accepted(case))
        return list(_differences(case))
    except caffe2torch.Caffe2TorchError as error:
        return [] if case.refused_by_caffe else [f"refused: {error}"]
    except Exception as error:
        return [f"crash: {type(error).__name__}: {error}"]


def _accepted(case: Case) -> Iterator[str]:
    graph = case.read()
    to_torch(graph)(inputs_of(graph))
    yield f"accepted, although Caffe says {case.facts.get('caffe_message')}"


def inputs_of(graph: caffe2torch.Graph) -> dict[str, torch.Tensor]:
    """Inputs for a net without a record."""
    return {i.name: torch.full(i.shape, 0.5) for i in graph.inputs}


def _differences(case: Case) -> Iterator[str]:
    graph, record = case.read(), recorded_in(case.folder)
    if list(graph.outputs) != sorted(record.outputs, key=str.encode):
        yield f"outputs {list(graph.outputs)}, of Caffe {sorted(record.outputs)}"
        return
    module = to_torch(graph)
    blobs = blobs_of(module, record.inputs, torch.float32)
    exact = blobs_of(module.double(), record.inputs, torch.float64)
    aliased = set(case.facts.get("aliased", []))
    for name, expected in {**record.middle, **record.outputs}.items():
        if name not in aliased and name in blobs:
            slack = _rounding(blobs[name], exact[name])
            yield from difference(f"torch {name}", blobs[name], expected, slack)
    if not graph.outputs:
        return
    model = complete(to_onnx(graph))
    for name, value in zip(graph.outputs, run_onnx(model, record.inputs).values(), strict=True):
        slack = _rounding(blobs[name], exact[name])
        yield from difference(f"onnx {name}", value, record.outputs[name], slack)


def blobs_of(module: CaffeModule, inputs: Mapping[str, Any], kind: torch.dtype) -> dict[str, Any]:
    """Every blob of a forward pass as an array."""
    with torch.no_grad():
        feed = {name: torch.from_numpy(value).to(kind) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in module.blobs(feed).items()}


def _rounding(single: Any, double: Any) -> float:
    with np.errstate(all="ignore"):
        apart = np.abs(single.astype(np.float64) - double)
    return ROUNDING * float(np.nanmax(np.where(np.isfinite(apart), apart, 0), initial=0))


def difference(what: str, actual: Any, expected: Any, slack: float) -> Iterator[str]:
    """A line if ``actual`` is not ``expected`` within OF_NET of its peak and ``slack``.

    Infinite values, NaN and the +-FLT_MAX that Caffe writes for "none" must be the same.
    """
    if actual.shape != expected.shape:
        yield f"{what}: shape {actual.shape}, of Caffe {expected.shape}"
        return
    usual = np.abs(expected) < np.finfo(np.float32).max
    if not np.array_equal(actual[~usual], expected[~usual], equal_nan=True):
        yield f"{what}: {actual[~usual][:3]} where Caffe has {expected[~usual][:3]}"
        return
    peak = np.abs(expected[usual]).max(initial=0)
    worst = np.abs(actual[usual] - expected[usual]).max(initial=0)
    if not worst <= OF_NET * peak + NEAR_ZERO + slack:
        yield f"{what}: {worst} apart, peak {peak}"


def table(found: Mapping[str, Sequence[str]]) -> str:
    """The findings as text, a case a paragraph."""
    return "\n".join(f"{name}: {line}" for name, lines in found.items() for line in lines)
