"""Whether OpenCV reads an ONNX file and computes what ONNX Runtime does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from caffe2torch.engines.onnxruntime import Session
from caffe2torch.engines.opencv import OpenCVOnnxEngine, quiet
from caffe2torch.errors import ArtefactError, EngineError, SessionError
from caffe2torch.graph import FloatArray
from caffe2torch.opencv.plan import SEED, TOLERANCE, is_opencv_4, refusal

BATCHES = (1, 3)
"""Sizes of the batch that are tried where the file leaves it open: OpenCV 5.0 has a mean over
the batch that is wrong from 3."""
SPREADS = (1, 50)
"""Standard deviations of the random inputs: of features, and of pixels less their mean."""


def convert_for_opencv(
    model: str | os.PathLike[str] | None, output: str | os.PathLike[str], **options: Any
) -> tuple[Path, str]:
    """``caffe2torch.convert`` to an .onnx, then ``check_onnx``; no file is left if that fails.

    Returns:
        The path of the file, and a sentence on what checked it.
    """
    from caffe2torch.api import convert

    path = Path(output)
    if path.suffix != ".onnx":
        raise ArtefactError(f"OpenCV reads .onnx files; {path} is none. Give it that suffix.")
    if not path.parent.is_dir():
        raise ArtefactError(f"{path}: the folder {path.parent} does not exist; make it first.")
    with TemporaryDirectory(prefix=".caffe2torch-", dir=path.parent) as folder:
        made = convert(model, Path(folder) / path.name, **options)
        version = check_onnx(made)
        os.replace(made, path)
    note = f"OpenCV {version} runs it as ONNX Runtime does"
    return path, note if not is_opencv_4() else f"{note}; its ONNX reader is not OpenCV 5's"


def check_onnx(path: str | os.PathLike[str]) -> str:
    """Load an ONNX file with the installed OpenCV and compare it with ONNX Runtime.

    Both run seeded random numbers of the size of features and of pixels, as a batch of 1 and,
    if the file leaves the batch open, of 3.

    Returns:
        The version of OpenCV that did it.

    Raises:
        ArtefactError: OpenCV does not load the file, or not every output is within 1e-4 of
            its peak of ONNX Runtime's.
    """
    import cv2

    reason = _refusal(Path(path).read_bytes())
    if reason is not None:
        raise ArtefactError(
            f"OpenCV {cv2.__version__} does not run this net rightly as ONNX: {reason}. Use "
            "caffe2torch.opencv.readNetFromCaffe with the Caffe files, or ONNX Runtime with an "
            "ONNX file made without this check."
        )
    return str(cv2.__version__)


def _refusal(content: bytes) -> str | None:
    """Why the installed OpenCV must not be given the file; None if it may."""
    reference = Session(content)
    if is_opencv_4() and any(len(shape) < 2 for shape in reference.outputs.values()):
        return "OpenCV 4 has no blobs of fewer than two axes"
    feeds = list(_feeds(reference.inputs))
    try:
        for feed in feeds:
            reference.run(feed)
    except SessionError as error:
        return f"it cannot be checked on random numbers ({error})"
    try:
        with quiet():
            candidate = OpenCVOnnxEngine(content, list(reference.outputs))
            reasons = (refusal(candidate, reference, feed, TOLERANCE) for feed in feeds)
            return next((reason for reason in reasons if reason is not None), None)
    except EngineError as error:
        return str(error)


def _feeds(inputs: Mapping[str, Sequence[Any]]) -> Iterator[Mapping[str, FloatArray]]:
    """Random inputs for the shapes that ONNX Runtime reports; open sizes are the batch."""
    rng = np.random.default_rng(SEED)
    is_open = any(isinstance(size, str) for shape in inputs.values() for size in shape)
    for batch, spread in product(BATCHES if is_open else BATCHES[:1], SPREADS):
        feed = {}
        for name, shape in inputs.items():
            sizes = [batch if isinstance(size, str) else size for size in shape]
            feed[name] = rng.standard_normal(sizes, np.float32) * np.float32(spread)
        yield feed
