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
        r"this is a template; write the value",
        "a template: a script fills in what stands in its place",
    ),
    (
        REFUSED,
        "is not a whole number",
        "a template: it has a word where a number of its data set goes",
    ),
    (REFUSED, "describes no layers", "no net: a solver, or settings of another tool"),
    (REFUSED, "both 'layers'", "V1 `layers` beside V2 `layer`, which Caffe refuses"),
    (
        REFUSED,
        "NetParameter has no field '.{1,3}'",
        "a stray letter between its layers, which Caffe refuses",
    ),
    (
        REFUSED,
        '"[A-Z][a-z]+" is not one of the values',
        "a V2 type in a V1 layer, which Caffe refuses",
    ),
    (
        REFUSED,
        "which no layer before it produces",
        "reads a blob that nothing in the file makes, which Caffe refuses",
    ),
    (
        REFUSED,
        "another layer has written already",
        "two layers write one blob, which Caffe refuses",
    ),
    (
        REFUSED,
        "Concat.*differ elsewhere than on axis",
        "joins blobs of different numbers of axes: written for a Caffe before blobs had any number "
        "of axes (2014), and refused since",
    ),
    (REFUSED, "SoftmaxWithLoss.*bottoms", "a loss without its labels, which Caffe refuses"),
    (REFUSED, "PReLU.*more than four axes", "a PReLU of five axes, which Caffe refuses"),
    (
        REFUSED,
        "random dropout of phase TRAIN|stays random at inference",
        "draws at random where it is run: no two results are the same, and ONNX has none",
    ),
    (
        REFUSED,
        "computes nothing|nothing of the net is left",
        "layers that only feed a training: nothing to convert",
    ),
    (
        REFUSED,
        "layer type 'Python ",
        "a Python layer whose code is not in the file, nor in the package",
    ),
    (
        REFUSED,
        "layer type FrcnnProposal",
        "its anchors and limits are in a configuration file of the program, not in the net",
    ),
    (
        REFUSED,
        "layer type BatchNormScale",
        "a layer whose code for a CPU computes something else than its code for a GPU",
    ),
    (
        REFUSED,
        "roi_pooling_param.pooled_l",
        "regions of a video's time (R-C3D), which its program proposes",
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
