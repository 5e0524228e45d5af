"""Every recorded net of phase TEST, with its layers fused, against genuine Caffe."""

from __future__ import annotations

import torch
from golden import Case, difference, table
from running.nets import working_in
from support import CASE_NAMES, CASES, recorded, run_onnx

import caffe2torch
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.rewrites.fuse import fuse

ROUNDING = 1e-5
"""What folding rounds once more, absolute: the nets' values are about 1."""


def test_recorded_nets_fused() -> None:
    found = {
        name: list(findings(Case(CASES / name)))
        for name in CASE_NAMES
        if not name.startswith("qr_")  # Their weights are not among the cases.
    }
    assert not any(found.values()), table(found)


def findings(case: Case) -> list[str]:
    if case.refused_by_caffe or case.facts["phase"] != "TEST":
        return []
    try:
        with working_in(case.folder):
            graph = fuse(case.read())
            record = recorded(case.folder.name)
            inputs = {name: torch.from_numpy(value) for name, value in record.inputs.items()}
            with torch.no_grad():
                module = caffe2torch.optimize(to_torch(case.read()))
                results = {"optimized torch": outputs_of(module(inputs), graph)}
            if graph.outputs:
                given = run_onnx(complete(to_onnx(graph)), record.inputs)
                results["fused onnx"] = dict(zip(graph.outputs, given.values(), strict=True))
    except Exception as error:  # A crash is a finding, of whatever kind.
        return [f"{type(error).__name__}: {error}"]
    return [
        line
        for what, values in results.items()
        for blob, value in values.items()
        for line in difference(f"{what} {blob}", value, record.outputs[blob], ROUNDING)
    ]


def outputs_of(value: object, graph: caffe2torch.Graph) -> dict[str, object]:
    values = value if isinstance(value, dict) else {graph.outputs[0]: value}
    return {blob: tensor.numpy() for blob, tensor in values.items()}
