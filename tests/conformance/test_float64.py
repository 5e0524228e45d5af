"""Every layer's torch form runs in float64, as parity needs it, and is as near to Caffe there."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from support import CASE_NAMES, CASES, NEAR_ZERO, OF_LAYER, OF_NET, recorded

import caffe2torch
from caffe2torch.compare import BlobDifference, in_float32_range
from caffe2torch.lower.to_torch import to_torch

PLAIN = {"expect": "ok", "phase": "TEST", "level": 0, "stages": []}


def test_the_recorded_nets_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, ran = [], 0
    for name in CASE_NAMES:
        case = json.loads((CASES / name / "case.json").read_text())
        weights = case["weights_file"]
        model = None if weights is None else CASES / name / weights
        if not case.items() >= PLAIN.items() or (model and not model.exists()):
            continue
        monkeypatch.chdir(CASES / name)  # Some layers read files beside the net.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
            graph = caffe2torch.read(model, CASES / name / "net.prototxt", allow_missing=True)
        inputs, outputs, _ = recorded(name)
        with torch.no_grad():
            feed = {k: torch.from_numpy(a).double() for k, a in inputs.items()}
            blobs = to_torch(graph).double().blobs(feed)
        ran += 1
        for blob in graph.outputs:
            difference = BlobDifference(blob)
            difference.add(outputs[blob], in_float32_range(blobs[blob].numpy()))
            tolerance = OF_NET if name.startswith("net_") else OF_LAYER
            if difference.max_abs > tolerance * difference.peak + NEAR_ZERO:
                failed.append(f"{name}: {blob} {difference.max_abs:.3g} of {difference.peak:.3g}")
    assert not failed, "\n".join(failed)
    assert ran > 250
