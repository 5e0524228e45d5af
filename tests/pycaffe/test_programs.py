"""Unchanged programs that say ``import caffe``, against what genuine pycaffe gave them."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_what_genuine_pycaffe_gave_it(name: str, tmp_path: Path) -> None:
    folder = genuine("SHARED", "pycaffe")
    places = {"SHARED_MODELS": str(genuine("MODELS")), "SHARED_DATA": str(genuine("DATA"))}
    script = str(folder / name / "script.py")
    program = [sys.executable, "-m", "caffe2torch.pycaffe", script, str(tmp_path)]
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        program,
        env={**os.environ, **places, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    compare = [sys.executable, str(folder / "compare.py")]
    kinds = [folder / name / kind for kind in ("expected", "expected_noaa")]
    verdicts = [
        subprocess.run([*compare, str(kind), str(tmp_path)], capture_output=True, text=True)
        for kind in kinds
        if kind.is_dir()
    ]
    assert any(not verdict.returncode for verdict in verdicts), verdicts[0].stdout


def test_all_programs_of_the_corpus_are_run() -> None:
    folders = {path.parent.name for path in genuine("SHARED", "pycaffe").glob("*/script.py")}
    assert folders == set(PROGRAMS)
