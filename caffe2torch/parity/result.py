"""The outcome of a check, as objects and as the plain values of report.schema.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from caffe2torch.compare import (
    ABSOLUTE_FLOOR,
    RELATIVE_TOLERANCE,
    Agreement,
    BlobDifference,
    LogitSample,
    Score,
    common_blobs,
)
from caffe2torch.engines import Blobs
from caffe2torch.engines.reference import REFERENCE
from caffe2torch.errors import ParityError
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.parity.inputs import SEED
from caffe2torch.parity.top5 import TopFive, has_classes
from caffe2torch.parity.verdict import (
    AGREES,
    DIFFERS,
    KNOWN,
    ROUNDING,
    VERDICTS,
    Judge,
    Verdict,
)

if TYPE_CHECKING:
    from caffe2torch.parity.feed import Feed
    from caffe2torch.parity.inputs import Batch
    from caffe2torch.parity.provenance import FileRecord
    from caffe2torch.parity.reproducer import Reproducer
    from caffe2torch.parity.top5 import ImageRow

SCHEMA_VERSION = 2
"""Of ``to_dict``; a key that changes its meaning raises it, a new key does not."""


@dataclass(frozen=True)
class Case:
    """One batch on which two engines differ; ``record`` is its part of the recorded outputs."""

    baseline: str
    engine: str
    inputs: Mapping[str, FloatArray]
    record: Blobs


@dataclass
class Comparison:
    """One engine against another, over all batches.

    ``differences`` are by blob, in the order of the net, and ``verdicts`` the worst on those
    that exceeded the tolerance. ``case`` is the batch in which a blob that differs exceeds it by
    the largest factor, ``excess``.
    """

    engine: str
    baseline: str
    logits: str
    tolerance: float | None
    differences: dict[str, BlobDifference] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    agreement: Agreement = field(default_factory=Agreement)
    sample: LogitSample = field(default_factory=LogitSample)
    case: Case | None = None
    excess: float = 1.0

    def add(self, batch: Batch, order: Sequence[str], judge: Judge) -> None:
        """Take one batch into account; ``order`` are the net's blobs, without its inputs."""
        first, second = judge.results[self.baseline], judge.results[self.engine]
        common = common_blobs(order, first, second)
        for blob in common:
            found = judge.difference(blob, self.baseline, self.engine)
            self.differences.setdefault(blob, BlobDifference(blob)).merge(found)
            if found.exceeds(self.tolerance):
                verdict = judge.verdict(blob, self.baseline, self.engine, self.tolerance)
                self._note(found, verdict, batch, judge.results.get(REFERENCE, {}))
        if self.logits in common:
            self.sample.add(first[self.logits], second[self.logits])
            if first[self.logits].ndim > 1:
                self.agreement.add(first[self.logits], second[self.logits])

    def _note(self, found: BlobDifference, verdict: Verdict, batch: Batch, record: Blobs) -> None:
        before = self.verdicts.get(found.blob)
        if before is None or VERDICTS.index(verdict.kind) > VERDICTS.index(before.kind):
            self.verdicts[found.blob] = verdict
        limit = found.limit(self.tolerance)
        excess = found.max_abs / limit if limit else math.inf
        if verdict.kind == DIFFERS and (self.case is None or excess > self.excess):
            self.case = Case(self.baseline, self.engine, batch.inputs, dict(record))
            self.excess = excess

    def kind(self, difference: BlobDifference) -> str:
        """The verdict on a blob: one of VERDICTS."""
        if not difference.exceeds(self.tolerance):
            return AGREES
        return self.verdicts[difference.blob].kind

    def judged(self, kind: str) -> list[BlobDifference]:
        """The blobs with that verdict, in the order of the net."""
        return [d for d in self.blobs if self.kind(d) == kind]

    def notes(self) -> list[str]:
        """What explains the differences above the tolerance, in lines of text."""
        lines = []
        rounded = self.judged(ROUNDING)
        if rounded:
            worst = max(rounded, key=lambda d: d.max_rel)
            lines.append(
                f"{len(rounded)} blobs differ by rounding, which the net amplifies up to "
                f"{worst.max_rel:.2g} of a peak ({worst.blob}); layer by layer both agree with "
                "float64"
            )
        for d in self.judged(KNOWN):
            lines.append(f"{d.blob} differs by a known fault: {self.verdicts[d.blob].reason}")
        for d in self.judged(DIFFERS)[:1]:
            lines.append(f"{d.blob} differs: {self.verdicts[d.blob].reason}")
        return lines

    @property
    def blobs(self) -> list[BlobDifference]:
        """The differences, in the order of the net."""
        return list(self.differences.values())

    @property
    def first_divergence(self) -> str | None:
        """The first blob along the net that differs, for no known reason."""
        return next((d.blob for d in self.judged(DIFFERS)), None)

    @property
    def worst(self) -> BlobDifference:
        """The blob with the largest difference relative to its peak."""
        return max(self.blobs, key=lambda d: d.max_rel)

    @property
    def last(self) -> BlobDifference:
        """The difference of the logits, or of the last blob where one engine lacks them."""
        return next((d for d in self.blobs if d.blob == self.logits), self.blobs[-1])

    @property
    def passed(self) -> bool:
        """Whether no blob differs but for rounding and known faults of an engine."""
        return self.first_divergence is None

    def to_dict(self) -> dict[str, Any]:
        """What the JSON report says of the pair."""
        return {
            "engine": self.engine,
            "baseline": self.baseline,
            "passed": self.passed,
            "first_divergence": self.first_divergence,
            "worst": self.worst.blob,
            "logits": self.logits,
            "agreement": asdict(self.agreement),
            "blobs": [self._blob(d) for d in self.blobs],
            "scatter": {"total": self.sample.seen, "pairs": self.sample.pairs.tolist()},
        }

    def _blob(self, difference: BlobDifference) -> dict[str, Any]:
        kind = self.kind(difference)
        verdict = None if kind == AGREES else self.verdicts[difference.blob]
        return {
            "blob": difference.blob,
            "max_abs": difference.max_abs,
            "max_rel": difference.max_rel,
            "peak": difference.peak,
            "limit": difference.limit(self.tolerance),
            "passed": kind != DIFFERS,
            "verdict": kind,
            "reason": verdict and verdict.reason,
            "float64": {
                name: {"error": step.error, "rounding": step.limit}
                for name, step in (verdict.steps.items() if verdict else ())
            },
        }


@dataclass(frozen=True)
class Bisection:
    """Where two engines part.

    ``layers`` are (name, type) pairs: one, unless an engine hides the values between them;
    none, if no layer differs once the engines show every value. ``blob`` is the first output
    that differs, ``blob@layer`` where a later layer changes it in place. ``max_abs`` and
    ``peak`` were measured in the net, ``alone`` is the largest error of the layer by itself,
    fed what the baseline fed it, None where it cannot run by itself (``note`` says why);
    ``reproduced`` says that it fails the check by itself too.
    ``others`` are later layers that also turn inputs that agree into outputs that do not.
    """

    baseline: str
    engine: str
    layers: tuple[tuple[str, str], ...] = ()
    blob: str | None = None
    max_abs: float = 0.0
    peak: float = 0.0
    limit: float = 0.0
    alone: float | None = None
    reproduced: bool = False
    others: tuple[str, ...] = ()
    files: Reproducer | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by their names in the JSON report."""
        fields = asdict(self)
        layers = [{"name": name, "type": type_} for name, type_ in fields.pop("layers")]
        return {"layers": layers, "alone_max_abs": fields.pop("alone"), **fields}

    def summary(self) -> list[str]:
        """What was found, in lines of text."""
        if not self.layers:
            return [f"{self.engine} / {self.baseline}: {self.note}"]
        names = ", ".join(f"{name} ({type_})" for name, type_ in self.layers)
        what = "the first layer" if len(self.layers) == 1 else "the first layers (no value between)"
        lines = [
            f"{self.engine} / {self.baseline}: {what} whose inputs agree and whose output does "
            f"not: {names}",
            f"output {self.blob}: max abs error {self.max_abs:.3g}, peak {self.peak:.3g}, "
            f"allowed {self.limit:.3g}",
        ]
        if self.alone is None:
            lines.append(f"it could not be run by itself: {self.note}")
        else:
            verdict = "differs too" if self.reproduced else "agrees: it magnifies what it is fed"
            lines.append(f"by itself it {verdict}: max abs error {self.alone:.3g}")
        if self.others:
            lines.append(f"layers that differ by themselves further on: {', '.join(self.others)}")
        return lines


@dataclass
class ParityReport:
    """The outcome of a parity check.

    Every engine stands against the first, and against the recorded outputs if there are any.
    ``images`` counts the items fed; ``scores`` are by engine, where labels are known.
    ``bisection`` is there if it was asked for and an engine differs. ``precisions`` says what
    engines compute in that do not in float32.
    """

    model: str
    graph: Graph
    logits: str
    feed: Feed
    comparisons: list[Comparison]
    skipped: dict[str, str]
    tolerance: float | None
    images: int = 0
    scores: dict[str, Score] = field(default_factory=dict)
    top5: TopFive = field(default_factory=TopFive)
    files: Sequence[FileRecord] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    precisions: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    bisection: Bisection | None = None

    @property
    def passed(self) -> bool:
        """Whether every comparison passed."""
        return all(comparison.passed for comparison in self.comparisons)

    def add(self, batch: Batch, results: Mapping[str, Blobs]) -> None:
        """Take what the engines made of one batch into account."""
        self.images += max((len(a) for a in batch.inputs.values() if a.ndim), default=1)
        order = [blob for blob in self.graph.blobs if blob not in batch.inputs]
        judge = Judge(self.graph, batch.inputs, results, self.precisions)
        for pair in self.comparisons:
            if pair.engine in results and pair.baseline in results:
                pair.add(batch, order, judge)
        logits = {n: blobs[self.logits] for n, blobs in results.items() if self.logits in blobs}
        if batch.labels:
            for name, array in logits.items():
                self.scores.setdefault(name, Score()).add(array, batch.labels)
        if has_classes(self.graph, self.logits):
            self.top5.add(batch, logits)

    def name_of(self, index: int) -> str | None:
        """The name of a class, if names were given."""
        return self.class_names[index] if index < len(self.class_names) else None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON; caffe2torch/parity/report.schema.json says which.

        Numbers that JSON cannot hold are the texts ``inf``, ``-inf`` and ``nan``.
        """
        fields = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "passed": self.passed,
            "images": self.images,
            "tolerance": {
                "absolute": self.tolerance,
                "relative": RELATIVE_TOLERANCE if self.tolerance is None else None,
                "floor": ABSOLUTE_FLOOR if self.tolerance is None else None,
            },
            "net": self._net(),
            "inputs": {
                "kind": self.feed.kind,
                "path": self.feed.path,
                "seed": SEED if self.feed.kind == "random" else None,
                "sha256": self.feed.sha256,
            },
            "files": [asdict(record) for record in self.files],
            "versions": self.versions,
            "precisions": self.precisions,
            "skipped": self.skipped,
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "top5": {
                "images": [self._row(row) for row in self.top5.rows],
                "omitted": self.top5.seen - len(self.top5.rows),
                "omitted_differing": self.top5.omitted_differing,
            },
            "bisection": None if self.bisection is None else self.bisection.to_dict(),
        }
        return {key: _plain(value) for key, value in fields.items()}

    def _net(self) -> dict[str, Any]:
        graph = self.graph
        layer_of = {value: node.layer for node in graph.nodes for value in node.outputs}
        return {
            "name": graph.name,
            "phase": graph.phase,
            "source_sha256": str(graph.source_sha256) if graph.source_sha256 else None,
            "layers": len(graph.nodes),
            "inputs": {i.name: i.shape for i in graph.inputs},
            "outputs": graph.outputs,
            "logits": self.logits,
            "preprocessing": graph.preprocessing and graph.preprocessing.to_record(),
            "blobs": [
                {
                    "blob": blob,
                    "layer": layer_of[value].name,
                    "type": layer_of[value].type,
                    "shape": graph.shapes[value],
                }
                for blob, value in graph.blobs.items()
                if value in layer_of
            ],
        }

    def _row(self, row: ImageRow) -> dict[str, Any]:
        return {
            "index": row.index,
            "name": row.name,
            "label": row.label,
            "label_name": None if row.label is None else self.name_of(row.label),
            "same": row.same,
            "engines": {
                engine: [{"class": c, "name": self.name_of(c), "logit": score} for c, score in best]
                for engine, best in row.engines.items()
            },
        }


def logits_of(graph: Graph) -> str:
    """The blob to judge classes by: the first output, before a softmax if it has one.

    Of a net without outputs it is the last blob. Raises ParityError for a net without layers.
    """
    from caffe2torch.layers.softmax import Softmax

    fed = {declared.name for declared in graph.inputs}
    computed = [blob for blob, value in graph.blobs.items() if value not in fed]
    if not computed:
        raise ParityError("the net computes nothing: no layer of it has a top to compare.")
    blob = graph.outputs[0] if graph.outputs else computed[-1]
    by_value = {value: name for name, value in graph.blobs.items()}
    for node in graph.nodes:
        if graph.blobs[blob] in node.outputs and isinstance(node.layer, Softmax):
            return by_value.get(node.inputs[0], blob)
    return blob


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numbers with nine digits, which tell any two float32."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
