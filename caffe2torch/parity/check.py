"""Run every engine on the same input and judge whether they agree."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from caffe2torch.engines import (
    ALL,
    FLOAT32,
    Blobs,
    Engine,
    Job,
    PathLike,
    engine_names,
    precision_of,
    start_engines,
)
from caffe2torch.engines.reference import REFERENCE, ReferenceEngine
from caffe2torch.errors import EngineError, ParityError
from caffe2torch.parity import RANDOM_BATCHES
from caffe2torch.parity.result import Comparison, ParityReport, logits_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffe2torch.api import ReadOptions
    from caffe2torch.graph import FloatArray, Graph
    from caffe2torch.parity.feed import Given

MOST_VALUES = 1 << 29
"""Of all blobs of a net together, at the shapes it declares: 2 GiB in each engine."""


def check_parity(
    model: PathLike | None,
    prototxt: PathLike | None = None,
    *,
    inputs: Given | None = None,
    images: PathLike | None = None,
    random: int = RANDOM_BATCHES,
    engines: Sequence[str] | None = None,
    reference: PathLike | None = None,
    tolerance: float | None = None,
    bisect: PathLike | None = None,
    synset_words: PathLike | None = None,
    **read_options: Unpack[ReadOptions],
) -> ParityReport:
    """Run the net on several engines and compare every blob they show.

    Args:
        model: as for ``read``; an artefact has no OpenCV engine.
        inputs: arrays by input blob, or an ``.npz`` of them, fed as one batch; else
            ``images`` (a folder), else ``random`` batches of seeded random numbers.
        engines: names of registered engines, of which the first is the baseline; ``all`` for
            every one, ``torch`` first; None for those that run by default. An engine that cannot
            run the net is skipped with its reason in the report.
        reference: an ``.npz`` of recorded outputs, in the order of the inputs; it becomes
            one more engine.
        tolerance: largest absolute difference of a blob; the default is 1e-4 of its peak.
        bisect: where two engines differ, find the first layer that makes the first such
            pair differ and write it into this folder, as a net for ``check_parity``.
        synset_words: a file of class names, one a line.
        read_options: as for ``read``.

    Raises:
        ParityError: the inputs, the engines or the reference are unusable, or an engine that is
            named is not installed.
        Caffe2TorchError: the model is.
    """
    from caffe2torch.api import read
    from caffe2torch.finite import warn_not_finite
    from caffe2torch.images import read_class_names
    from caffe2torch.parity.feed import feed
    from caffe2torch.parity.provenance import file_records, versions

    known = engine_names()
    chosen = known if ALL in (engines or ()) else engines
    if chosen is None:
        chosen = engine_names(by_default=True)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ParityError(f"unknown engine {unknown or 'list'}; known are {', '.join(known)}.")
    names = () if synset_words is None else read_class_names(synset_words)
    graph = read(model, prototxt, **read_options)
    warn_not_finite(graph)
    _check_size(graph)
    fed = feed(graph, inputs, images, random)
    job = Job(graph, model, prototxt)
    running, skipped = start_engines(chosen, job, demanded=chosen is engines)
    if reference is not None:
        name = None if model is None else os.fspath(model)
        running[REFERENCE] = ReferenceEngine(reference, graph, name)
    if len(running) < 2:
        alone = "; ".join(running)
        raise ParityError(
            f"fewer than two engines can run the net: {_reasons(skipped)}"
            if skipped
            else f"a check compares two engines, and the only one is {alone}: give one more "
            "(--engine), or what Caffe recorded (--reference)"
        )
    logits = logits_of(graph)
    files = {
        "model": model,
        "prototxt": prototxt,
        "reference": reference,
        "inputs": fed.path,
        "class names": synset_words,
    }
    report = ParityReport(
        model=os.fspath(model or prototxt or ""),
        graph=graph,
        logits=logits,
        feed=fed,
        comparisons=[Comparison(e, b, logits, tolerance) for b, e in _pairs(list(running))],
        skipped=skipped,
        tolerance=tolerance,
        files=file_records(files),
        versions=versions(),
        precisions={n: p for n, e in running.items() if (p := precision_of(e)) != FLOAT32},
        class_names=names,
    )
    for batch in fed:
        report.add(batch, _run(running, batch.inputs, skipped))
    if not report.images:
        raise ParityError("there are no inputs.")
    report.comparisons = [pair for pair in report.comparisons if pair.differences]
    if not report.comparisons:
        raise ParityError(f"no two engines show the same blob. {_reasons(skipped)}")
    failed = next((c for c in report.comparisons if not c.passed), None)
    if bisect is not None and failed is not None and failed.case is not None:
        from caffe2torch.parity import bisect as bisection

        report.bisection = bisection.bisect(
            graph,
            failed.case,
            bisect,
            model=model,
            prototxt=prototxt,
            tolerance=tolerance,
            check=check_parity,
        )
    return report


def _check_size(graph: Graph) -> None:
    """A net's text can ask for any size in a few bytes, and engines do not ask before."""
    values = sum(prod(shape) for shape in graph.shapes.values())
    if values > MOST_VALUES:
        raise ParityError(
            f"the net's blobs have {values:,} values together, and each engine holds them all at "
            f"once; a check runs up to {MOST_VALUES:,}. Give smaller inputs (--input-shape)."
        )


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """(baseline, engine): the first engine with each other, then the record, which is last."""
    pairs = [(names[0], name) for name in names[1:]]
    return pairs + [(REFERENCE, name) for name in names[1:-1] if names[-1] == REFERENCE]


def _run(
    engines: dict[str, Engine], inputs: Mapping[str, FloatArray], skipped: dict[str, str]
) -> dict[str, Blobs]:
    """What the engines make of one batch; one that fails goes from ``engines`` to ``skipped``."""
    results = {}
    for name, engine in list(engines.items()):
        try:
            results[name] = engine.run(inputs)
        except EngineError as error:
            skipped[name] = str(error)
            del engines[name]
    return results


def _reasons(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in skipped.items())
