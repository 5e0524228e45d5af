"""A process killed at any of the system calls of a write, and the next one killed as well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("crash_points.py")


def crash_points(folder, kind):
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, kind], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def finals(contents):
    return {name: text for name, text in contents.items() if ".caffe2torch-" not in name}


@pytest.mark.parametrize(
    ("kind", "old", "news"),
    [
        ("one", {"main": "old", "part": "old part"}, [{"main": "new", "part": "old part"}]),
        ("pair", {"main": "old", "part": "old part"}, [{"main": "new", "part": "new part"}]),
        (
            "named",
            {"main": "old", "part": "old part"},
            [
                {"main": "new", "part": "old part", "part2": "new part"},
                # The old main file still has the part that it refers to.
                {"main": "old", "part": "old part", "part2": "new part"},
            ],
        ),
    ],
)
def test_kill_at_each_call(tmp_path, kind, old, news):
    result = crash_points(tmp_path, kind)
    assert result["end"] == news[0]
    moments = [finals(answer["then"]) for answer in result["answers"]]
    seen = [moment for moment in moments if "main" in moment]
    assert all(moment in (old, *news) for moment in seen)
    assert old in seen
    assert news[0] in seen
    # Only a pair that replaces a pair is without its main file for a moment.
    assert (len(seen) < len(moments)) == (kind == "pair")
    for answer in result["answers"]:
        for after in answer["after"]:
            assert after.pop("other") == "other"
            assert after in (old, *news)
            # What was complete stays, and what was not comes back.
            assert after == finals(answer["then"]) or "main" not in answer["then"]
