"""Write the table of supported layers, with conformance results, into README.md.

Runs every net of the corpus through both lowerings, so the table says what was measured::

    python tools/support_table.py          # rewrite the table
    python tools/support_table.py --check  # fail if it is out of date
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import caffe2torch
from caffe2torch.io.atomic import atomic_write
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.summary import support

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "conformance" / "cases"
README = ROOT / "README.md"
BEGIN, END = "<!-- support table -->", "<!-- end of support table -->"
TOLERANCE = 1e-4


def run_case(folder: Path) -> tuple[list[str], bool, bool]:
    """The layer types of a case, and whether torch and ONNX agree with Caffe."""
    import onnxruntime

    case = json.loads((folder / "case.json").read_text())
    os.chdir(folder)
    with np.load("io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    inputs = {key[3:]: value for key, value in arrays.items() if key.startswith("in/")}
    outputs = {key[4:]: value for key, value in arrays.items() if key.startswith("out/")}
    graph = caffe2torch.read(
        case["weights_file"],
        "net.prototxt",
        phase=case["phase"],
        level=case["level"],
        stages=case["stages"],
        allow_missing=case.get("quirk") == "missing_layer_filler",
    )
    with torch.no_grad():
        feed = {name: torch.from_numpy(value) for name, value in inputs.items()}
        blobs = {name: value.numpy() for name, value in to_torch(graph).blobs(feed).items()}
    in_torch = all(_close(blobs[name], value) for name, value in outputs.items())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = complete(to_onnx(graph)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    values = dict(zip(graph.outputs, session.run(None, inputs), strict=True))
    in_onnx = all(_close(values[name], value) for name, value in outputs.items())
    return case["layer_types"], in_torch, in_onnx


def table() -> str:
    """The Markdown table."""
    total: dict[str, int] = defaultdict(int)
    right: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path in sorted(CASES.glob("*/case.json")):
        case = json.loads(path.read_text())
        if case["expect"] != "ok" or str(case["weights_file"]).startswith(".."):
            continue
        types, in_torch, in_onnx = run_case(path.parent)
        for name in types:
            total[name] += 1
            right[name][0] += in_torch
            right[name][1] += in_onnx
    lines = [
        "| Layer type | torch | ONNX | conformance nets right, torch / ONNX |",
        "|---|---|---|---|",
    ]
    for row in support():
        name = row["type"]
        result = f"{right[name][0]} / {right[name][1]} of {total[name]}" if total[name] else "-"
        lines.append(f"| {name} | {row['torch']} | {row['onnx']} | {result} |")
    return "\n".join(lines)


def main() -> int:
    """Rewrite or check the table."""
    warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
    text = README.read_text()
    head, rest = text.split(BEGIN)
    new = f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"
    if "--check" in sys.argv[1:]:
        return int(new != text)
    with atomic_write(README) as file:
        file.write(new.encode())
    return 0


def _close(value: np.ndarray, expected: np.ndarray) -> bool:
    if value.shape != expected.shape:
        return False
    usual = np.abs(expected) < np.finfo(np.float32).max
    peak = np.abs(expected[usual]).max(initial=0)
    return bool(np.abs(value[usual] - expected[usual]).max(initial=0) <= TOLERANCE * peak + 1e-6)


if __name__ == "__main__":
    sys.exit(main())
