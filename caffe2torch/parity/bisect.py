"""Find the layer at which two engines part, and write it down as a net of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from caffe2torch.compare import BlobDifference, common_blobs, worst_item
from caffe2torch.engines import BASELINE, FLOAT32, Blobs, Job, precision_of, start_engine
from caffe2torch.engines.reference import REFERENCE
from caffe2torch.errors import Caffe2TorchError, EngineError, UnsupportedLayerError
from caffe2torch.graph import Array, FloatArray, Graph, Node
from caffe2torch.parity.float64 import Float64, back_to
from caffe2torch.parity.reproducer import Reproducer, excerpt, one_item, write_excerpt
from caffe2torch.parity.result import Bisection, Case, ParityReport

PathLike = str | os.PathLike[str]
Check = Callable[..., ParityReport]


@dataclass(frozen=True)
class Suspect:
    """Layers whose inputs agree in two engines and whose output ``value`` does not.

    It is one layer where both engines show every value around it.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    value: str
    difference: BlobDifference


def bisect(
    graph: Graph,
    case: Case,
    directory: PathLike,
    *,
    model: PathLike | None,
    prototxt: PathLike | None,
    tolerance: float | None,
    check: Check,
) -> Bisection:
    """Find the first layer that makes the engines of ``case`` differ; write it to ``directory``.

    Both engines run the batch again and show every value they can, the versions of a blob
    before in-place layers included. Recorded outputs count as the baseline and show what was
    recorded. ``check`` is ``check_parity``, for the layer by itself.
    """
    names = (case.baseline, case.engine)
    names = names[::-1] if case.engine == REFERENCE else names
    baseline, engine = names
    whole = with_every_value(graph)
    shown = [_values(whole, graph, n, case, model, prototxt) for n in names]
    first, second = (values for values, _ in shown)
    float64 = Float64(whole, case.inputs)

    def is_rounding(value: str) -> bool:
        steps = (
            float64.step(value, values, name == BASELINE, precision)
            for name, (values, precision) in zip(names, shown, strict=True)
        )
        return tolerance is None and all(step.explained for step in steps)

    suspects = find_suspects(whole, case.inputs, first, second, tolerance, is_rounding)
    if not suspects:
        return Bisection(
            baseline,
            engine,
            note="no layer differs when every value is shown: the difference comes from how "
            "the engine joins layers.",
        )
    suspect = suspects[0]
    found = Bisection(
        baseline,
        engine,
        layers=tuple((node.layer.name, node.layer.type) for node in suspect.nodes),
        blob=suspect.value,
        max_abs=suspect.difference.max_abs,
        peak=suspect.difference.peak,
        limit=suspect.difference.limit(tolerance),
        others=tuple(node.layer.name for s in suspects[1:] for node in s.nodes),
    )
    return _reproduce(found, whole, suspect, first, second, directory, tolerance, check)


def find_suspects(
    graph: Graph,
    inputs: Mapping[str, FloatArray],
    first: Mapping[str, Array],
    second: Mapping[str, Array],
    tolerance: float | None,
    is_rounding: Callable[[str], bool],
) -> list[Suspect]:
    """All places where inputs that agree become an output that does not, in net order.

    ``graph`` has every value as a blob; ``first`` and ``second`` are two engines' values. They
    agree on a value, too, where ``is_rounding`` of it.
    """
    shown = set(common_blobs(list(graph.blobs), first, second)) | set(inputs)
    producer = {value: node for node in graph.nodes for value in node.outputs}
    wrong: set[str] = set()
    suspects: dict[tuple[int, ...], Suspect] = {}
    for node in graph.nodes:
        for value in node.outputs:
            if value not in shown:
                continue
            difference = BlobDifference(value)
            difference.add(first[value], second[value])
            if not difference.exceeds(tolerance) or is_rounding(value):
                continue
            wrong.add(value)
            nodes, reads = back_to(shown, producer, value)
            if wrong.isdisjoint(reads):
                ordered = tuple(n for n in graph.nodes if any(n is found for found in nodes))
                key = tuple(id(n) for n in ordered)
                suspects.setdefault(key, Suspect(ordered, reads, value, difference))
    return list(suspects.values())


def _values(
    whole: Graph,
    graph: Graph,
    name: str,
    case: Case,
    model: PathLike | None,
    prototxt: PathLike | None,
) -> tuple[Blobs, str]:
    """What an engine shows, with the inputs, and what it computes in."""
    if name == REFERENCE:
        record = {graph.blobs[blob]: array for blob, array in case.record.items()}
        return record | dict(case.inputs), FLOAT32
    try:
        engine = start_engine(name, Job(whole, model, prototxt))
    except (EngineError, UnsupportedLayerError) as error:
        raise Caffe2TorchError(f"{name} cannot show every value: {error}") from error
    return {**engine.run(case.inputs), **case.inputs}, precision_of(engine)


def with_every_value(graph: Graph) -> Graph:
    """``graph`` with every value as a blob, so that engines show what in-place layers read."""
    return replace(
        graph,
        blobs={value: value for value in graph.shapes},
        outputs=tuple(graph.blobs[blob] for blob in graph.outputs),
    )


def _reproduce(
    found: Bisection,
    graph: Graph,
    suspect: Suspect,
    first: Blobs,
    second: Blobs,
    directory: PathLike,
    tolerance: float | None,
    check: Check,
) -> Bisection:
    """Write the suspect and run what was written, cut to one item if that fails just so."""

    def run(files: Reproducer) -> BlobDifference:
        """The difference between the engine on the written net and the record."""
        report = check(
            files.model,
            files.prototxt,
            inputs=files.inputs,
            reference=files.reference,
            engines=(found.engine,),
            tolerance=tolerance,
            phase=graph.phase,
        )
        return next(d for d in report.comparisons[0].blobs if d.blob == suspect.value)

    whole = excerpt(graph, suspect.nodes, suspect.inputs, first)
    files = write_excerpt(whole, directory)
    try:
        error = run(files)
    except Caffe2TorchError as reason:
        return replace(found, files=files, note=str(reason))
    found = replace(found, files=files, alone=error.max_abs, reproduced=error.exceeds(tolerance))
    item = worst_item(first[suspect.value], second[suspect.value])
    cut = one_item(graph, whole, item) if found.reproduced else None
    if cut is None:
        return found
    # A layer that joins the items of a batch (batch statistics) gives other values for one.
    with suppress(Caffe2TorchError):
        of_item = run(write_excerpt(cut, directory)).max_abs
        if abs(of_item - error.max_abs) <= error.limit(tolerance):
            return replace(found, alone=of_item)
    write_excerpt(whole, directory)
    return found
