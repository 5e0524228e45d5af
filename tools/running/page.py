"""docs/runtimes.md, of what was measured and of what each consumer's file says."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caffe2torch.consumers import Consumer, consumer, consumer_names

HEAD = """# Programs that nets are deployed to

<!-- Written by `python tools/runtimes.py --page`. -->

    caffe2torch convert net.caffemodel net.onnx --prototxt deploy.prototxt --for openvino

`--for` writes the form that a program reads rightly, and holds it against what the program is
known to read. Where the program is installed, it runs the file on random inputs: each output must
be within 1e-4 of its peak of what ONNX Runtime computes. A net that the program does not run
rightly is refused by layer and operator. Some of the programs read other files than ONNX.

Each was run on the nets that genuine Caffe recorded (`tests/conformance`), SqueezeNet v1.0, v1.1
and the compressed one, and the digits' sample model, as files that are written with `--for` it. An
output is right within 1e-4 of its peak of Caffe's own; "fails" is an error or a crash of the
program, "wrong" other numbers. Core ML runs on Apple's systems alone: its files were converted, and
the module that they are made of is held to Caffe's outputs by the tests. Rows of -1 that a fixed
number of detections ends with are left out.

"""
SHOWN = 6
"""Nets that a reason names."""
SHORT = 160
"""Characters of a reason."""


def write_page(record: Path, page: Path) -> None:
    """Write ``page`` from the ``record`` (JSON) of what was measured."""
    measured = json.loads(record.read_text()) if record.exists() else {}
    page.write_text(text_of(measured))


def text_of(measured: Mapping[str, Any]) -> str:
    """The page."""
    lines = [HEAD + "| `--for` | measured with | right | refused | fails | wrong |"]
    lines.append("|---|---|---|---|---|---|")
    chosen = [(consumer(name), measured.get(name)) for name in consumer_names()]
    lines += [_row(one, found) for one, found in chosen]
    for one, found in chosen:
        lines += ["", *_section(one, found)]
    return "\n".join(lines) + "\n"


def _row(one: Consumer, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return f"| {one.name} | not yet | | | | |"
    packages = ", ".join(found["packages"]) or f"its list of operators ({one.source})"
    counts = found["counts"]
    right = f"{n} converted, not run" if (n := counts.get("converted")) else str(counts["right"])
    numbers = " | ".join(str(counts[outcome]) for outcome in ("refused", "fails", "wrong"))
    return f"| {one.name} | {packages} | {right} | {numbers} |"


def _section(one: Consumer, found: Mapping[str, Any] | None) -> list[str]:
    first = (type(one).__doc__ or "").strip().split("\n\n")[0]
    lines = [f"## {one.title}", "", " ".join(first.split()), ""]
    lines.append(
        f"`--for {one.name}` writes a `{one.suffix}` file" + (", loaded by" if one.load else ".")
    )
    lines += ["", "```text", one.load, "```", ""] if one.load else [""]
    if one.must_run:
        lines += [
            "A file is written only where it is installed and has run the file rightly: what fails "
            "or is wrong in the table is refused then.",
            "",
        ]
    if one.form:
        options = {key.replace("_", "-"): value for key, value in one.form.items()}
        form = ", ".join(f"`--{k}`" if v is True else f"`--{k} {v}`" for k, v in options.items())
        lines += [f"`--for {one.name}` implies {form}; another value may be given.", ""]
    if one.form.get("fixed_rows"):
        lines += ["Detections come in a fixed number of rows: those beyond the boxes are -1.", ""]
    lines += [f"* {sentence}" for sentence in (one.note, one.avoid) if sentence]
    if found is None:
        return lines
    if found["simplified"]:
        lines.append(_simplified(found["simplified"]))
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for net, (outcome, detail) in found["others"].items():
        reasons[outcome, _reason(detail)].append(net)
    if reasons:
        lines += ["", "| | why | nets |", "|---|---|---|"]
        for (outcome, reason), nets in sorted(reasons.items()):
            lines.append(f"| {outcome} | {reason} | {len(nets)}: {_some(nets)} |")
    return lines


def _simplified(failed: Mapping[str, Sequence[str]]) -> str:
    parts = [
        f"{module}: " + (f"not right are {_some(nets)}" if nets else "all right")
        for module, nets in failed.items()
    ]
    return (
        "* SqueezeNet v1.0 and v1.1, the digits, the QR detector and super-resolution as a "
        f"simplifier leaves their files: {'; '.join(parts)}."
    )


def _reason(detail: str) -> str:
    """What nets have in common: without the layer that a message begins with."""
    _, found, rest = detail.partition("does not run this net: ")
    text = " ".join((rest if found else detail).split()).replace("|", "/")
    for start, end in ((" at '", "', and"), ("', and", "', and")):
        before, cut, after = text.partition(start)
        if cut and end in after and start == " at '":
            text = before + " and" + after.partition(end)[2]
    return text.partition(" End the net before it")[0][:SHORT]


def _some(nets: Sequence[str]) -> str:
    more = ", ..." if len(nets) > SHOWN else ""
    return ", ".join(sorted(nets)[:SHOWN]) + more
