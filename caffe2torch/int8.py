"""int8 ONNX by ONNX Runtime's static quantisation, judged against the float32 form."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe2torch.artefact.write import FORMAT, dumps
from caffe2torch.errors import ArtefactError, ParityError, first_line
from caffe2torch.graph import Array, Graph
from caffe2torch.images import Sample

if TYPE_CHECKING:
    import onnx

    from caffe2torch.compare import Agreement, Score

PathLike = str | os.PathLike[str]
Images = Sequence[Sample]

CALIBRATE = 50
"""Images to calibrate on. SqueezeNet v1.1 gains nothing from more: see PERCENTILE."""

PERCENTILE = 99.999
"""Share of the values of a blob, in percent, that its 256 levels span; the rest is clipped.
On SqueezeNet v1.1 it gives 31.9 dB of signal to noise at the logits; the whole range of the
calibration images gives 26.0, least entropy 26.1, 99.99 gives 25.9, 99.9 gives 17.1."""

BATCH = 8
"""Images whose blobs are held at once while their values are counted."""

TINY = 1e-30
"""Of the energy of an output, so that one without error has a finite ratio."""

LEFT_ALONE = ("Softmax",)
"""Kept in float32: 256 levels between 0 and 1 would hide all but the likeliest classes."""


@dataclass(frozen=True)
class Scheme:
    """How values become integers; see ``quantize``."""

    reduce_range: bool
    symmetric: bool
    per_tensor: bool

    @property
    def activation_type(self) -> str:
        """Of ONNX Runtime's QuantType."""
        return "QInt8" if self.symmetric else "QUInt8"


@dataclass
class QuantizeReport:
    """What the int8 form costs and saves. ``scores`` are by form, where labels are known.

    ``signal_to_noise`` is that of the first output, in decibels (10 dB: the error is a third
    of the signal; 30 dB: 3 %). ``agreement`` and ``scores`` stay empty for a net whose first
    output is not one number a class.
    """

    path: str
    calibrated: int
    images: int
    float32_bytes: int
    int8_bytes: int
    signal_to_noise: float
    agreement: Agreement
    scores: dict[str, Score] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)


def quantize(
    model: PathLike | None,
    output: PathLike,
    prototxt: PathLike | None = None,
    *,
    images: PathLike,
    val_list: PathLike | None = None,
    calibrate: int = CALIBRATE,
    reduce_range: bool = False,
    symmetric: bool = False,
    per_tensor: bool = False,
    **read_options: Any,
) -> QuantizeReport:
    """Write the net as ONNX with int8 weights and activations, and compare it with float32.

    Weights are int8 with a scale for each output channel and zero point 0, activations uint8 with
    the range that the calibration images show; Softmax stays as it is. Inputs and outputs stay
    float32 and keep their names.

    Args:
        model, prototxt, read_options: as for ``read``.
        output: the .onnx file to write.
        images: a folder of images of the kind that the net will see.
        val_list: ``file label`` a line; without it a ``val_list.txt`` in the folder or beside
            it is taken.
        calibrate: how many of the images, evenly spaced and at most half of them, to calibrate
            on. The others are what the report is about.
        reduce_range: weights of 7 bits, for x86 processors without VNNI instructions, whose
            16-bit sums of products would saturate.
        symmetric: activations are int8 with zero point 0, and biases stay float32: what TensorRT
            takes. Values that are never negative then have 128 levels of the 256.
        per_tensor: one scale for all output channels of a weight.

    Raises:
        ParityError: fewer than two usable images, or a net without one image input.
        ArtefactError: another suffix, or ONNX Runtime cannot quantise the net.
    """
    from caffe2torch.api import read
    from caffe2torch.artefact.write import write_graph
    from caffe2torch.io.atomic import atomic_write
    from caffe2torch.parity.inputs import list_images

    if Path(output).suffix != ".onnx":
        raise ArtefactError(f"{os.fspath(output)}: the int8 form is ONNX; give a name in .onnx.")
    graph = read(model, prototxt, **read_options)
    _check_input(graph)
    calibration, others = _split(list_images(images, val_list), calibrate, graph)
    with tempfile.TemporaryDirectory() as folder:
        float32 = Path(folder) / "float32.onnx"
        write_graph(graph, float32)
        scheme = Scheme(reduce_range, symmetric, per_tensor)
        quantized = _quantize(graph, float32, calibration, scheme)
        report = _compare(graph, float32, quantized, others)
    report.path, report.calibrated = os.fspath(output), len(calibration)
    with atomic_write(output) as file:
        file.write(quantized)
    return report


def _check_input(graph: Graph) -> None:
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        raise ParityError(
            "quantising needs a net with one image input; its inputs are "
            f"{', '.join(f'{i.name!r} {i.shape}' for i in graph.inputs) or 'none'}."
        )


def _split(images: Images, calibrate: int, graph: Graph) -> tuple[Images, Images]:
    """Evenly spaced images to calibrate on and the others, both in whole batches."""
    from caffe2torch.lower.batch import batch_of

    step = graph.inputs[0].shape[0] if batch_of(graph) is None else 1
    count = min(calibrate, len(images) // 2) // step * step
    if not count:
        raise ParityError(
            f"{len(images)} images are too few: {2 * step} or more are needed, one half to "
            "calibrate on and one to compare with."
        )
    taken = {i * len(images) // count for i in range(count)}
    others = [image for i, image in enumerate(images) if i not in taken]
    return [images[i] for i in sorted(taken)], others[: len(others) // step * step]


def _quantize(graph: Graph, float32: Path, images: Images, scheme: Scheme) -> bytes:
    """The quantised model. ``float32`` is marked as prepared, which it is: shapes are known."""
    import onnx
    from onnxruntime import quantization

    model = onnx.load(float32)
    for key in ("onnx.infer", "onnx.quant.pre_process"):
        model.metadata_props.add(key=key, value="onnxruntime.quant")
    prepared, target = (float32.with_name(f"{name}.onnx") for name in ("prepared", "int8"))
    onnx.save(model, prepared)
    try:
        # It reports progress on stdout.
        with contextlib.redirect_stdout(io.StringIO()):
            quantization.quantize_static(
                prepared,
                target,
                _Reader(graph, images),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType[scheme.activation_type],
                weight_type=quantization.QuantType.QInt8,
                per_channel=not scheme.per_tensor,
                reduce_range=scheme.reduce_range,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                nodes_to_exclude=[n.name for n in model.graph.node if n.op_type in LEFT_ALONE],
                extra_options={
                    "CalibPercentile": PERCENTILE,
                    "CalibStridedMinMax": 1,
                    "ActivationSymmetric": scheme.symmetric,
                    "QuantizeBias": not scheme.symmetric,
                },
            )
    except ParityError:
        raise
    except Exception as error:  # Of any kind: from Python, numpy or ONNX Runtime itself.
        cause = first_line(error)
        raise ArtefactError(f"ONNX Runtime cannot quantise the net: {cause}") from error
    return _finished(onnx.load(target), len(images), scheme)


def _finished(model: onnx.ModelProto, calibrated: int, scheme: Scheme) -> bytes:
    """The checked file, whose metadata says how it was made."""
    import onnx

    record = {entry.key: entry.value for entry in model.metadata_props}
    metadata = json.loads(record[FORMAT])
    metadata["quantization"] = {
        "weights": "int7" if scheme.reduce_range else "int8",
        "scales": "per tensor" if scheme.per_tensor else "per channel",
        "activations": "int8" if scheme.symmetric else "uint8",
        "calibration": f"percentile {PERCENTILE}",
        "images": calibrated,
    }
    del model.metadata_props[:]
    model.metadata_props.add(key=FORMAT, value=dumps(metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Reader:
    """The calibration images for ONNX Runtime, which asks for a range of batches, then for each."""

    def __init__(self, graph: Graph, images: Images) -> None:
        self.graph, self.batches = graph, list(_batches(graph, images))
        self.waiting: list[Images] = []

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.waiting = self.batches[start_index:end_index]

    def get_next(self) -> dict[str, Array] | None:
        return _feed(self.graph, self.waiting.pop(0)) if self.waiting else None


def _batches(graph: Graph, images: Images) -> Iterator[Images]:
    from caffe2torch.parity.inputs import batch_size

    size = min(BATCH, batch_size(graph, len(images)))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _feed(graph: Graph, images: Images) -> dict[str, Array]:
    from caffe2torch.parity.inputs import image_input

    target = graph.inputs[0]
    inputs = [image_input(sample.path, target.shape, graph.preprocessing) for sample in images]
    return {target.name: np.stack(inputs)}


def _compare(graph: Graph, float32: Path, quantized: bytes, images: Images) -> QuantizeReport:
    """Both forms on images that were not calibrated on."""
    from caffe2torch.compare import Agreement, Score
    from caffe2torch.engines.onnxruntime import Session
    from caffe2torch.parity.top5 import has_classes

    sessions = [Session(float32), Session(quantized)]
    scores = {"float32": Score(), "int8": Score()}
    agreement = Agreement()
    signal = noise = 0.0
    labelled = all(sample.label is not None for sample in images)
    classifies = has_classes(graph, graph.outputs[0])
    for batch in _batches(graph, images):
        feed = _feed(graph, batch)
        first, second = (next(iter(session.run(feed).values())) for session in sessions)
        signal += float(np.square(first, dtype=np.float64).sum())
        noise += float(np.square(first - second, dtype=np.float64).sum())
        if not classifies:
            continue
        agreement.add(first, second)
        if labelled:
            labels = [sample.label for sample in batch if sample.label is not None]
            for score, logits in zip(scores.values(), (first, second), strict=True):
                score.add(logits, labels)
    return QuantizeReport(
        path="",
        calibrated=0,
        images=len(images),
        float32_bytes=sum(part.stat().st_size for part in float32.parent.glob("float32*")),
        int8_bytes=len(quantized),
        signal_to_noise=10 * log10(max(signal, TINY) / max(noise, TINY)),
        agreement=agreement,
        scores=scores if classifies and labelled else {},
    )
