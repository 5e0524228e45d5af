"""A check as JUnit XML: a test suite for each pair of engines, a test case for each blob."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from caffe2torch.io.atomic import atomic_write
from caffe2torch.parity.verdict import AGREES, DIFFERS, KNOWN, ROUNDING

if TYPE_CHECKING:
    from caffe2torch.compare import BlobDifference
    from caffe2torch.parity.result import Comparison, ParityReport

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 cannot hold in any form."""


def write_junit(report: ParityReport, path: str | os.PathLike[str]) -> None:
    """Write ``report`` to ``path``; a blob that differs is a failure with its figures.

    One that differs by a known fault of an engine is skipped; one that rounding explains passes,
    with a line of output. An engine that could not run is a suite of one skipped case. Raises
    ArtefactError where the file cannot be written.
    """
    root = ElementTree.Element("testsuites", name=_text(f"parity of {report.model}"))
    for comparison in report.comparisons:
        _add_suite(root, report.model, comparison)
    for engine, reason in report.skipped.items():
        suite = _element(root, "testsuite", name=engine, tests=1, failures=0, errors=0, skipped=1)
        case = _element(suite, "testcase", classname=report.model, name=engine)
        _element(case, "skipped", message=reason)
    ElementTree.indent(root, " ")
    with atomic_write(path) as file:
        ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _add_suite(root: ElementTree.Element, model: str, comparison: Comparison) -> None:
    failed, known = (len(comparison.judged(kind)) for kind in (DIFFERS, KNOWN))
    counts = {"tests": len(comparison.blobs), "failures": failed, "errors": 0, "skipped": known}
    name = f"{comparison.engine} / {comparison.baseline}"
    suite = _element(root, "testsuite", name=name, **counts)
    for difference in comparison.blobs:
        case = _element(suite, "testcase", classname=f"{model} {name}", name=difference.blob)
        kind = comparison.kind(difference)
        if kind == AGREES:
            continue
        reason = comparison.verdicts[difference.blob].reason
        message = f"{_figures(difference, comparison.tolerance)}; {reason}"
        if kind == ROUNDING:
            _element(case, "system-out").text = _text(f"{kind}: {message}")
        else:
            _element(case, "failure" if kind == DIFFERS else "skipped", message=message)


def _figures(difference: BlobDifference, tolerance: float | None) -> str:
    return (
        f"max abs error {difference.max_abs:.6g}, allowed {difference.limit(tolerance):.6g}; "
        f"peak {difference.peak:.6g}, relative error {difference.max_rel:.6g}"
    )


def _element(parent: ElementTree.Element, tag: str, **attributes: object) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, {k: _text(v) for k, v in attributes.items()})


def _text(value: object) -> str:
    return NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", str(value))
