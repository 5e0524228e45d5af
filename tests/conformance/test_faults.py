"""The nets of ``faults/``: each is right now, or refused for a reason that names the cause."""

from __future__ import annotations

import re

import golden
import pytest
from support import genuine

import caffe2torch

IN_PLACE = "in place, where Caffe overwrites what it still reads"

REFUSED = {
    f"wrong_inplace_{kind}": IN_PLACE
    for kind in (
        "argmax conv1x1 deconv1x1 eltwise_max eltwise_sum ip lrn_across pool_ave pool_max spp"
    ).split()
}
"""What the refusal says, by folder."""

RIGHT = (
    "version_bilinear_k2",
    "version_bilinear_k4",
    "version_bilinear_k7",
    "version_bilinear_k9",
    "wrong_layer_phase_batchnorm",
    "wrong_layer_phase_dropout",
)
"""Folders whose record both lowerings reproduce."""


def test_what_was_wrong_is_right() -> None:
    folder = genuine("SHARED", "faults")
    found = {name: golden.findings(golden.Case(folder / name)) for name in RIGHT}
    assert not any(found.values()), golden.table(found)


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_accepted_is_refused(name: str) -> None:
    case = golden.Case(genuine("SHARED", "faults", name))
    with pytest.raises(caffe2torch.Caffe2TorchError, match=re.escape(REFUSED[name])):
        case.read()
