"""What a difference between two engines means: rounding, a known fault of an engine, or a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.compare import BlobDifference, is_detections
from caffe2torch.engines import BASELINE, FLOAT32, Blobs
from caffe2torch.parity.float64 import Float64, Step
from caffe2torch.parity.known_faults import known_fault

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray, Graph

AGREES, ROUNDING, KNOWN, DIFFERS = VERDICTS = ("agrees", "rounding", "known fault", "differs")
"""The verdicts on a blob, the better first."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a blob that exceeds the tolerance, and why, in one line.

    ``steps`` are the two engines' errors against float64 by name, where they were judged by it.
    """

    kind: str
    reason: str
    steps: Mapping[str, Step]


class Judge:
    """Judges the blobs of one batch; ``results`` are what the engines made of ``inputs``.

    ``precisions`` says what engines compute in that do not in float32.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, FloatArray],
        results: Mapping[str, Blobs],
        precisions: Mapping[str, str],
    ) -> None:
        self.graph, self.results, self.precisions = graph, results, precisions
        self.float64 = Float64(graph, inputs)
        self._steps: dict[tuple[str, str], Step] = {}
        self._marred: set[tuple[str, str]] = set()
        """Values that differ by a known fault of an engine, by the engine."""

    def difference(self, blob: str, baseline: str, engine: str) -> BlobDifference:
        """How far two engines are apart at ``blob``."""
        value = self.graph.blobs[blob]
        node = self.float64.producer.get(value)
        free = node.layer.free_axes if node else ()
        found = BlobDifference(blob, detections=is_detections(self.graph.shapes[value], free))
        found.add(self.results[baseline][blob], self.results[engine][blob])
        return found

    def verdict(self, blob: str, baseline: str, engine: str, tolerance: float | None) -> Verdict:
        """What it means that two engines differ at ``blob`` by more than ``tolerance``.

        A ``tolerance`` that was given leaves no room for rounding.
        """
        value = self.graph.blobs[blob]
        steps = {name: self._step(blob, name) for name in (baseline, engine)}
        wrong = [name for name, step in steps.items() if not step.explained]
        if wrong == [BASELINE] and all(step.by_torch for step in steps.values()):
            wrong = []  # Float64 has a range of its own; another engine's float32 is torch's.
        suspects = wrong or list(steps)
        reasons = [self._known(name, steps[name], not wrong) for name in suspects]
        if any(reasons) and (all(reasons) or not wrong):
            self._marred.update((name, value) for name in suspects)
            return Verdict(KNOWN, next(filter(None, reasons)), steps)
        if tolerance is None and not wrong:
            reason = "both agree with float64 on their own blobs below"
            lower = [f"{n} as {self.precisions[n]} rounds" for n in steps if n in self.precisions]
            return Verdict(ROUNDING, ", ".join([reason, *lower]), steps)
        shapes = [self.results[name][blob].shape for name in (baseline, engine)]
        if self._size(baseline, blob) != self._size(engine, blob):
            return Verdict(DIFFERS, f"shapes {shapes[0]} and {shapes[1]}", steps)
        return Verdict(DIFFERS, "; ".join(_sentence(name, steps[name]) for name in suspects), steps)

    def _known(self, name: str, step: Step, carried: bool) -> str | None:
        """The known fault of ``name`` in a step, or one whose result the step carries on."""
        fault = known_fault(name, step.nodes)
        if fault is None and carried and any((name, value) in self._marred for value in step.reads):
            fault = f"what {name} is known to get wrong is carried on"
        return fault

    def _size(self, name: str, blob: str) -> int:
        return int(self.results[name][blob].size)

    def _step(self, blob: str, name: str) -> Step:
        if (name, blob) not in self._steps:
            precision = self.precisions.get(name, FLOAT32)
            found = self.float64.step(blob, self.results[name], name == BASELINE, precision)
            self._steps[name, blob] = found
        return self._steps[name, blob]


def _sentence(name: str, step: Step) -> str:
    return (
        f"{name} is {step.error:.3g} from float64 on its own blobs below, where rounding explains "
        f"{step.limit:.3g}"
    )
