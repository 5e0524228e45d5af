"""A thousand random nets over Caffe's whole catalogue, against what genuine Caffe said of each."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import golden
import pytest
from support import genuine

REFUSED_SHARE = 0.97
"""Of the nets that Caffe refuses. Some it refuses for what is no matter here, as a text that
the very version of protobuf does not take."""


ALIAS = "in place through an alias"
"""Of a refusal: Caffe computes such a net, in which a blob changes behind the author's back."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[golden.Case]:
    folder = tmp_path_factory.mktemp("fuzz")
    with zipfile.ZipFile(genuine("SHARED", "fuzz", "nets.zip")) as archive:
        archive.extractall(folder)
    return [golden.Case(path.parent) for path in sorted(folder.glob("*/case.json"))]


def found_in(cases: Sequence[golden.Case]) -> dict[str, list[str]]:
    found = {Path(case.folder).name: golden.findings(case) for case in cases}
    return {name: lines for name, lines in found.items() if lines}


def test_what_caffe_computes_is_computed(cases: Sequence[golden.Case]) -> None:
    found = found_in([case for case in cases if not case.refused_by_caffe])
    found = {name: lines for name, lines in found.items() if ALIAS not in lines[0]}
    assert not found, golden.table(found)


def test_what_caffe_refuses_is_refused(cases: Sequence[golden.Case]) -> None:
    refused = [case for case in cases if case.refused_by_caffe]
    found = found_in(refused)
    crashes = {name: lines for name, lines in found.items() if lines[0].startswith("crash")}
    assert not crashes, golden.table(crashes)
    assert len(found) <= (1 - REFUSED_SHARE) * len(refused), golden.table(found)
