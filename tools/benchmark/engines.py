"""One engine, one net, one batch size, in a process of its own: median seconds of a forward pass.

    python engines.py ENGINE MODEL BATCH THREADS SECONDS

It is run by the Python of the environment that has the engine, and imports nothing else of
this project where the engine is not ours.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

WARMUP = 3
Forward = Callable[[], object]


def inputs(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    """A seeded batch."""
    return np.random.default_rng(0).standard_normal((batch, *shape[1:])).astype(np.float32)


def eager(model: str, batch: int, threads: int) -> tuple[Forward, str]:
    """Our module as ``load`` returns it."""
    return _ours(model, batch, threads, optimized=False)


def optimized(model: str, batch: int, threads: int) -> tuple[Forward, str]:
    """Our module after ``caffe2torch.optimize``."""
    return _ours(model, batch, threads, optimized=True)


def _ours(model: str, batch: int, threads: int, optimized: bool) -> tuple[Forward, str]:
    import torch

    import caffe2torch

    torch.set_num_threads(threads)
    loaded = caffe2torch.load(f"{model}.caffemodel", f"{model}.prototxt")
    shape = loaded.caffe_graph.inputs[0].shape
    module = caffe2torch.optimize(loaded) if optimized else loaded
    x = torch.from_numpy(inputs(batch, shape))

    def forward() -> object:
        with torch.inference_mode():
            return module(x)

    return forward, f"torch {torch.__version__}"


def onnxruntime(model: str, batch: int, threads: int) -> tuple[Forward, str]:
    """ONNX Runtime on MODEL.onnx."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        f"{model}.onnx", options, providers=["CPUExecutionProvider"]
    )
    (first,) = session.get_inputs()
    x = inputs(batch, tuple(first.shape))
    return lambda: session.run(None, {first.name: x}), f"onnxruntime {onnxruntime.__version__}"


def opencv(model: str, batch: int, threads: int) -> tuple[Forward, str]:
    """OpenCV 4's own Caffe reader."""
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(f"{model}.prototxt", f"{model}.caffemodel")
    x = inputs(batch, _declared(model))

    def forward() -> object:
        net.setInput(x)
        return net.forward()

    return forward, f"opencv {cv2.__version__}"


def mnn(model: str, batch: int, threads: int) -> tuple[Forward, str]:
    """MNN on MODEL.mnn, which its own converter made of the Caffe files."""
    import MNN

    runtime = MNN.nn.create_runtime_manager(({"numThread": threads, "backend": "CPU"},))
    module = MNN.nn.load_module_from_file(f"{model}.mnn", ["data"], [], runtime_manager=runtime)
    shape = (batch, *_declared(model)[1:])
    x = MNN.expr.convert(
        MNN.expr.const(inputs(batch, shape), list(shape), MNN.expr.NCHW), MNN.expr.NC4HW4
    )

    def forward() -> object:
        return module.forward([x])[0].read()

    return forward, f"MNN {MNN.version()}"


def torchvision(model: str, batch: int, threads: int) -> tuple[Forward, str]:
    """Torchvision's squeezenet1_1 in eager mode, with random weights."""
    import torch
    import torchvision

    torch.set_num_threads(threads)
    module = torchvision.models.squeezenet1_1().eval()
    x = torch.from_numpy(inputs(batch, (1, 3, 227, 227)))

    def forward() -> object:
        with torch.inference_mode():
            return module(x)

    return forward, f"torchvision {torchvision.__version__}, torch {torch.__version__}"


def _declared(model: str) -> tuple[int, ...]:
    """The shape in the first line of MODEL.shape."""
    with open(f"{model}.shape") as file:
        return tuple(map(int, file.read().split()))


ENGINES = {f.__name__: f for f in (eager, optimized, onnxruntime, opencv, mnn, torchvision)}


def main() -> None:
    """Measure, and print one line of JSON."""
    engine, model, batch, threads, seconds = sys.argv[1:]
    warnings.simplefilter("ignore")
    forward, version = ENGINES[engine](model, int(batch), int(threads))
    for _ in range(WARMUP):
        forward()
    times: list[float] = []
    end = time.perf_counter() + float(seconds)
    while time.perf_counter() < end or len(times) < WARMUP:
        start = time.perf_counter()
        forward()
        times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": statistics.median(times), "version": version}))


if __name__ == "__main__":
    main()
