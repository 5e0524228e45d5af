"""Why a net is rightly not converted, in words that a reader of the net would sign.

A reason holds for the findings whose texts (reason and detail) its pattern fits, not for names of
nets: a net of the same kind has the same reason. What no pattern fits is unexplained.
"""

from __future__ import annotations

import re

from wilding.judge import REFUSED, TIMEOUT, Finding

SIGNED: tuple[tuple[str, str, str], ...] = (
    (
        REFUSED,
        r"'\$' cannot stand here|'\{' cannot stand|%\(?\w+\)?[sd]",
        "a template: a script fills in what stands in its place",
    ),
    (
        REFUSED,
        r"num_output: .*is not|is no(t a)? number",
        "a template: it has words where the numbers of a data set go",
    ),
    (REFUSED, "describes no layers", "no net: a solver, or settings of another tool"),
    (
        REFUSED,
        "both `?layer`? and `?layers`?|mixes|'layers'? and 'layer'",
        "V1 `layers` beside V2 `layer`, which Caffe refuses",
    ),
    (
        REFUSED,
        "no layer before it produces|no layer of (it|the net) (makes|produces)",
        "reads a blob that nothing in the file makes, which Caffe refuses",
    ),
    (
        REFUSED,
        "has been? written already|another layer has written",
        "two layers write one blob, which Caffe refuses",
    ),
    (
        REFUSED,
        "differ elsewhere than on axis",
        "joins blobs of different numbers of axes: written for a Caffe before blobs had any number "
        "of axes (2014), and refused since",
    ),
    (
        REFUSED,
        "SoftmaxWithLoss.*bottom",
        "a loss without its labels, which Caffe refuses",
    ),
    (
        REFUSED,
        "random dropout of phase TRAIN",
        "whole in phase TRAIN alone, where its dropout is random",
    ),
    (REFUSED, "computes nothing", "data layers alone, with code of its own: nothing to convert"),
    (
        REFUSED,
        r"layer type 'Python ",
        "a Python layer whose code is not in the file, nor in the package",
    ),
    (TIMEOUT, "more values in its blobs", "too large to be run whole here; it is read"),
)


def signed(finding: Finding) -> str | None:
    """The reason why a net is not right; None if there is none that a reader would sign."""
    text = f"{finding.reason} {finding.detail}"
    fits = (
        why
        for outcome, pattern, why in SIGNED
        if outcome == finding.outcome and re.search(pattern, text)
    )
    return next(fits, None)
