"""docs/runtimes.md is what tools/runtimes.py makes of its record and of the consumers' files."""

from __future__ import annotations

import json
from pathlib import Path

from running.page import text_of
from runtimes import FAILS, REFUSED, RIGHT, WRONG, Finding, counts, read_findings

from caffe2torch.consumers import consumer_names

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_that_of_the_record() -> None:
    measured = json.loads((DOCS / "runtimes.json").read_text())
    assert (DOCS / "runtimes.md").read_text() == text_of(measured), (
        "run python tools/runtimes.py --page"
    )


def test_nothing_is_wrong_in_files_written_for_a_consumer() -> None:
    measured = json.loads((DOCS / "runtimes.json").read_text())
    assert {"openvino", "opencv5", "tensorrt", "tract"} <= set(measured) <= set(consumer_names())
    for name, found in measured.items():
        if name != "opencv4":  # It is known only by running each file, which `--for` does.
            assert found["counts"][WRONG] == 0, name


def test_a_record_is_read_again(tmp_path: Path) -> None:
    record = tmp_path / "mine.jsonl"
    assert read_findings(record) == []
    lines = [f'{{"net": "n{i}", "outcome": "{o}"}}' for i, o in enumerate((RIGHT, RIGHT, FAILS))]
    record.write_text("\n".join(lines) + "\n")
    findings = read_findings(record)
    assert findings[2] == Finding("n2", FAILS)
    assert counts([*findings, Finding("n3", REFUSED)]) == "1 fails, 1 refused, 2 right"
