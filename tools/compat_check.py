"""What tools/compat.py runs inside each environment; prints one JSON object.

``save`` records what OpenCV's own Caffe reader computes, ``check`` tries the project::

    python compat_check.py save RECORD.npz
    python compat_check.py check RECORD.npz
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

CASES = Path(__file__).resolve().parent.parent / "tests" / "conformance" / "cases"
NETS = ("net_squeezenet_v1_0", "net_squeezenet_v1_1", "net_resnet_block", "net_unet")
GENUINE = {
    "squeezenet_v1.0/squeezenet_v1.0.caffemodel": ("squeezenet_v1.0/deploy", (1, 3, 227, 227)),
    "squeezenet_v1.1/squeezenet_v1.1.caffemodel": ("squeezenet_v1.1/deploy", (1, 3, 227, 227)),
    "wechat_qr/sr.caffemodel": ("wechat_qr/sr", (1, 1, 40, 56)),
    "wechat_qr/detect.caffemodel": ("wechat_qr/detect", (1, 1, 160, 224)),
}
"""Weights, prototxt and input shape of published nets, where the variable names their folder."""
TOLERANCE = 1e-4
PACKAGES = ("numpy", "protobuf", "onnx", "onnxruntime", "opencv-python-headless", "torch")


def nets() -> Iterator[tuple[str, str, str, Any]]:
    """Name, prototxt, caffemodel and input of every net to compare with OpenCV's reader."""
    for name in NETS:
        with np.load(CASES / name / "io.npz") as file:
            (data,) = (file[key] for key in file.files if key.startswith("in/"))
        yield name, str(CASES / name / "net.prototxt"), str(CASES / name / "net.caffemodel"), data
    models = os.environ.get("CAFFE2TORCH_TEST_MODELS")
    for weights, (prototxt, shape) in GENUINE.items() if models else ():
        scale = 50 if shape[1] == 3 else 1
        data = np.random.default_rng(0).uniform(0, scale, shape).astype(np.float32)
        yield Path(weights).stem, f"{models}/{prototxt}.prototxt", f"{models}/{weights}", data


def save(path: str) -> dict[str, Any]:
    """Record names and outputs of OpenCV's reader."""
    import cv2

    record: dict[str, Any] = {"version": np.array(cv2.__version__)}
    for name, prototxt, weights, data in nets():
        net = cv2.dnn.readNetFromCaffe(prototxt, weights)
        names = net.getLayerNames()
        net.setInput(data)
        shown = [names[0], names[len(names) // 2], *net.getUnconnectedOutLayersNames()]
        record[f"{name}|names"] = np.array(names)
        for layer, value in zip(shown, net.forward(shown), strict=True):
            record[f"{name}|{layer}"] = np.array(value)
    np.savez(path, **record)
    return {"nets": len({key.split("|")[0] for key in record}) - 1}


def check(path: str) -> dict[str, Any]:
    """Try every part; the result of each is True, None (not there to try) or what failed."""
    steps: dict[str, Callable[[], Any]] = {
        "import": lambda: __import__("caffe2torch") and None,
        "version": lambda: run("--version"),
        "onnx": convert,
        "torch": parity,
        "opencv": lambda: dropin(path),
    }
    result: dict[str, Any] = {"python": sys.version.split()[0], "versions": versions()}
    for name, step in steps.items():
        if name == "torch" and result["versions"]["torch"] is None:
            result[name] = None
            continue
        try:
            step()
            result[name] = True
        except Exception as error:
            traceback.print_exc()
            result[name] = f"{type(error).__name__}: {error}"
    return result


def versions() -> dict[str, str | None]:
    """The versions of the packages that matter; None for one that is not there."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def run(*arguments: str) -> None:
    """Run the command line."""
    command = [sys.executable, "-m", "caffe2torch", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()[-500:]}")


def convert() -> None:
    """Convert to ONNX by the command line and compare with recorded outputs of Caffe."""
    from caffe2torch.engines.onnxruntime import Session

    case = CASES / "net_squeezenet_v1_1"
    with tempfile.TemporaryDirectory() as folder, np.load(case / "io.npz") as file:
        output = f"{folder}/net.onnx"
        net, weights = str(case / "net.prototxt"), str(case / "net.caffemodel")
        run("convert", weights, output, "--prototxt", net)
        inputs = {key[3:]: file[key] for key in file.files if key.startswith("in/")}
        expected = {key[4:]: file[key] for key in file.files if key.startswith("out/")}
        values = Session(output).run(inputs)
        for name, value in expected.items():
            compare(name, values[name], value)


def parity() -> None:
    """Our parity command: torch against ONNX Runtime and OpenCV where it has a reader."""
    case = CASES / "net_squeezenet_v1_1"
    net, weights = str(case / "net.prototxt"), str(case / "net.caffemodel")
    run("parity", weights, "--prototxt", net, "--random", "1")


def dropin(path: str) -> None:
    """``readNetFromCaffe`` of caffe2torch.opencv against the record of OpenCV's own."""
    from caffe2torch.opencv import readNetFromCaffe

    with np.load(path) as record:
        for name, prototxt, weights, data in nets():
            net = readNetFromCaffe(prototxt, weights)
            net.setInput(data)
            if net.getLayerNames() != tuple(record[f"{name}|names"]):
                raise AssertionError(f"{name}: other layer names")
            layers = [k.split("|")[1] for k in record.files if k.startswith(f"{name}|")][1:]
            for layer, value in zip(layers, net.forward(layers), strict=True):
                expected = record[f"{name}|{layer}"]
                if layer == "detection_output":  # OpenCV fills up with rows of zeros.
                    expected = expected[:, :, expected[0, 0, :, 2] > 0]
                compare(f"{name}, {layer}", value, expected)


def compare(what: str, value: Any, expected: Any) -> None:
    """Raise AssertionError if ``value`` is off by more than the tolerance of the peak."""
    if value.shape != expected.shape:
        raise AssertionError(f"{what}: shape {value.shape}, not {expected.shape}")
    worst, peak = np.abs(value - expected).max(initial=0), np.abs(expected).max(initial=0)
    if not worst <= TOLERANCE * peak + 1e-6:
        raise AssertionError(f"{what}: off by {worst:.3g} of {peak:.3g}")


if __name__ == "__main__":
    print(json.dumps({"save": save, "check": check}[sys.argv[1]](sys.argv[2])))
