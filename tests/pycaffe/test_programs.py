"""Unchanged programs that say ``import caffe``, against what genuine pycaffe gave them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from support import genuine

PROGRAMS = (
    "api_errors",
    "classifier_oversample",
    "classify_squeezenet",
    "detector_windows",
    "dream_ascent",
    "features_batches",
    "lmdb_datum",
    "memory_data",
    "netspec_lenet",
    "python_layers_train",
    "solver_loop",
    "surgery_fc_to_conv",
)


@pytest.fixture(scope="module")
def failures(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """What is wrong with each program that is asked for; two of them run at a time."""
    tests = [item.name for item in request.session.items if item.path == request.path]
    names = [name for name in PROGRAMS if any(test.endswith(f"[{name}]") for test in tests)]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(_failure, name, tmp_path_factory.mktemp(name)) for name in names}


def _failure(name: str, out: Path) -> str:
    folder = genuine("SHARED", "pycaffe")
    places = {"SHARED_MODELS": str(genuine("MODELS")), "SHARED_DATA": str(genuine("DATA"))}
    script = str(folder / name / "script.py")
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-m", "caffe2torch.pycaffe", script, str(out)],
        env={**os.environ, **places, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        return ran.stderr
    compare = [sys.executable, str(folder / "compare.py")]
    kinds = [folder / name / kind for kind in ("expected", "expected_noaa")]
    verdicts = [
        subprocess.run([*compare, str(kind), str(out)], capture_output=True, text=True)
        for kind in kinds
        if kind.is_dir()
    ]
    return "" if any(not verdict.returncode for verdict in verdicts) else verdicts[0].stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_what_genuine_pycaffe_gave_it(
    name: str, failures: dict[str, Future[str]]
) -> None:
    assert not failures[name].result()


def test_all_programs_of_the_corpus_are_run() -> None:
    folders = {path.parent.name for path in genuine("SHARED", "pycaffe").glob("*/script.py")}
    assert folders == set(PROGRAMS)
