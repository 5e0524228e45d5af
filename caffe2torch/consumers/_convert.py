"""Convert for a consumer: its form, held against what it is known to read, and run by itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from caffe2torch.compare import RELATIVE_TOLERANCE, BlobDifference, is_detections
from caffe2torch.consumers import Consumer, Doubt, consumer
from caffe2torch.consumers._process import Process
from caffe2torch.engines.onnxruntime import Session
from caffe2torch.errors import ArtefactError, EngineError, SessionError
from caffe2torch.graph import Array, FloatArray, Graph
from caffe2torch.lower.batch import batch_of, image_sized, with_batch

if TYPE_CHECKING:
    import onnx

HALF_TOLERANCE = 1e-2
"""Of an output's peak, where both compute in float16, which moves SqueezeNet's by 2.8e-4."""
BATCHES = (1, 3)
"""Batches that are run where the file leaves theirs open: OpenCV 5.0 has a mean over the batch
that is wrong from 3."""
COUNT = 2
"""Random inputs of each batch."""
ELSEWHERE = (
    "End the net before it with --until, or leave out --for and run the file in ONNX Runtime."
)


def convert_for(
    name: str,
    model: Any,
    output: str | os.PathLike[str],
    *,
    report: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Path:
    """``caffe2torch.convert``, to what the consumer ``name`` reads rightly.

    The file is held against what the consumer is known to read. Where the consumer is installed it
    runs the file on seeded random inputs, and each output must be within 1e-4 of its peak of ONNX
    Runtime's (with ``half`` 1e-2). ``report`` is called with a line on each: what was checked, and
    what the consumer's user must set.

    Raises:
        ArtefactError: the consumer does not read the net, or runs it otherwise. It names layer
            and operator; no file is left, and one that was there stays.
    """
    from caffe2torch.api import convert

    chosen, path = consumer(name), Path(output)
    if path.suffix != chosen.suffix:
        raise ArtefactError(
            f"{chosen.title} is given {chosen.suffix} files, and {path} is none; give it that "
            "suffix."
        )
    if not path.parent.is_dir():
        raise ArtefactError(f"{path}: the folder {path.parent} does not exist; make it first.")
    if options.get("layout"):
        raise ArtefactError("--layout is for a bare state_dict, which --for does not write.")

    def write(graph: Graph, path: Path, **given: Any) -> None:
        batch = given.get("batch", chosen.form.get("batch"))
        graph = graph if batch is None else with_batch(graph, batch)
        with TemporaryDirectory(prefix=".caffe2torch-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            chosen.write(graph, made, **{**chosen.form, **given})
            tolerance = HALF_TOLERANCE if given.get("half") else RELATIVE_TOLERANCE
            for line in check(chosen, graph, made, tolerance):
                report(line)
            for part in sorted(Path(folder).iterdir(), reverse=True):  # Weights beside it first.
                place = path.with_name(part.name)
                if place.is_dir():  # A folder that is a package cannot be replaced at once.
                    shutil.rmtree(place)
                os.replace(part, place)

    return convert(model, path, writer=write, **options)


def check(
    consumer: Consumer, graph: Graph, path: Path, tolerance: float = RELATIVE_TOLERANCE
) -> Iterator[str]:
    """What was checked of the file, and what its user must know, a sentence each.

    ``tolerance`` is how far an output may be from ONNX Runtime's, of its peak.

    Raises ArtefactError as ``convert_for`` does.
    """
    if consumer.suffix == ".onnx":
        refuse_unread(consumer, graph, path)
    version = consumer.version()
    if version is None and consumer.must_run:
        raise ArtefactError(
            f"{consumer.title} is not installed here, and what it reads rightly is only known by "
            f"running it; install {', '.join(consumer.packages)}."
        )
    if version is None:
        yield (
            f"{consumer.title} is not installed here, so it has not run the file; its operators "
            f"were held against {consumer.source}."
        )
    else:
        _run(consumer, graph, path, tolerance)
        yield f"{consumer.title} {version} runs it as ONNX Runtime does."
    if consumer.form.get("fixed_rows") and any(node.layer.free_axes for node in graph.nodes):
        yield "Its detections come in a fixed number of rows: those beyond the boxes are -1."
    concerns = not consumer.avoid_with or consumer.avoid_with in _operators(path)
    yield from filter(None, (consumer.note, consumer.avoid if concerns else ""))


def _operators(path: Path) -> Iterator[str]:
    """The operators of an .onnx file."""
    import onnx

    for node in onnx.load(path, load_external_data=False).graph.node:
        yield node.op_type


def refuse_unread(consumer: Consumer, graph: Graph, path: Path) -> None:
    """Raise ArtefactError if the file has a node that the consumer is known not to read."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    doubt = next(consumer.doubts(model), None)
    if doubt is None:
        return
    raise refusal(consumer, graph, doubt)


def refusal(consumer: Consumer, graph: Graph, doubt: Doubt) -> ArtefactError:
    """The error that names layer and operator of what the consumer does not read."""
    layer = layer_of(graph, doubt.node)
    return ArtefactError(
        f"{consumer.title} does not run this net: its ONNX form has {doubt.node.op_type} at "
        f"{doubt.node.name!r}, and {doubt.why}. {ELSEWHERE}",
        layer=layer.layer.name if layer else None,
        type=layer.layer.type if layer else None,
    )


def layer_of(graph: Graph, part: onnx.NodeProto) -> Any:
    """The graph's node whose ONNX form has ``part``: by the blob that it makes, or its name."""
    makers = [node for node in graph.nodes if set(node.outputs) & set(part.output)]
    makers += [
        node
        for node in sorted(graph.nodes, key=lambda node: -len(node.layer.name))
        if part.name.startswith(f"{node.layer.name}/")
    ]
    return makers[0] if makers else None


def _run(consumer: Consumer, graph: Graph, path: Path, tolerance: float) -> None:
    """Raise ArtefactError unless the consumer runs the file as ONNX Runtime does."""
    try:
        reference = _reference(consumer, graph, path)
        with Process(consumer) as process:
            for feed in feeds(graph, reference.inputs):
                expected = reference.run(feed)
                shapes = {name: array.shape for name, array in expected.items()}
                found = process.run(path, feed, shapes)
                for cause in differences(graph, found, expected, tolerance):
                    raise EngineError(cause)
    except (EngineError, SessionError) as error:
        raise ArtefactError(
            f"{consumer.title} {consumer.version()} does not run this net rightly: {error}. Leave "
            "out --for and run the file in ONNX Runtime."
        ) from error


def _reference(consumer: Consumer, graph: Graph, path: Path) -> Session:
    """The file in ONNX Runtime; of another kind of file, the graph's ONNX form."""
    from caffe2torch.lower.to_onnx import complete, to_onnx

    if consumer.suffix == ".onnx":
        return Session(path)
    return Session(complete(to_onnx(graph, **consumer.form)).SerializeToString())


def feeds(graph: Graph, shapes: Mapping[str, Sequence[Any]]) -> Iterator[Mapping[str, FloatArray]]:
    """Seeded random inputs of the sizes that ``shapes`` says; a text in them is an open size."""
    from caffe2torch.lower.to_onnx import IMAGE_SIZES
    from caffe2torch.parity.inputs import random_batches

    is_open = any(isinstance(size, str) for shape in shapes.values() for size in shape[:1])
    is_free = any(isinstance(n, str) for shape in shapes.values() for n in shape[2:])
    sized = image_sized(graph, *IMAGE_SIZES[0]) if is_free else None
    graph = sized or graph
    fixed = next((shape[0] for shape in shapes.values() if shape), None)
    for batch in BATCHES if is_open else (fixed,):
        some = graph if batch is None or batch_of(graph) is None else with_batch(graph, batch)
        for inputs in random_batches(some, COUNT):
            yield {name: inputs.inputs[name] for name in shapes}


def differences(
    graph: Graph,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: float = RELATIVE_TOLERANCE,
) -> Iterator[str]:
    """How outputs differ by more than ``tolerance`` of the peak."""
    free = {value: node.layer.free_axes for node in graph.nodes for value in node.outputs}
    for name, right in expected.items():
        value = found[name]
        if value.shape != right.shape:
            yield f"{name!r} has the shape {value.shape}, not {right.shape}"
            continue
        detections = is_detections(right.shape, free.get(graph.blobs.get(name, name), ()))
        difference = BlobDifference(name, detections=detections)
        difference.add(right, value)
        if difference.exceeds(None, tolerance):
            yield f"{name!r} differs by {difference.max_abs:.2g} at a peak of {difference.peak:.2g}"
