"""The figures of large sets: each kind is made, opened and measured."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("lmdb")
if sys.platform != "linux":
    pytest.skip("the tool reads Linux's counts of memory", allow_module_level=True)

from bench_data import KINDS, opened


def test_every_kind_of_set_is_opened() -> None:
    found = opened(2000)
    assert found.keys() == KINDS.keys()
    assert all(0 < seconds < 60 and megabytes >= 0 for seconds, megabytes in found.values())
