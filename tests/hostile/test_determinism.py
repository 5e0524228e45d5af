"""The same input and version give the same bytes, whatever the hash seed and the threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import CASES

NETS = ("net_squeezenet_v1_1", "shared_params_conv", "train_val_style_test", "lstm")
SCRIPT = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import caffe2torch
from caffe2torch.io.write_caffemodel import write_caffemodel
cases, out = map(Path, sys.argv[1:3])
for name in sys.argv[3:]:
    weights = cases / name / "net.caffemodel"
    files = weights if weights.exists() else None, cases / name / "net.prototxt"
    for suffix in (".onnx", ".safetensors", ".pt"):
        caffe2torch.convert(files[0], out / f"{name}{suffix}", files[1], allow_missing=True)
    graph = caffe2torch.read(*files, allow_missing=True)
    write_caffemodel(graph, out / f"{name}.caffemodel", out / f"{name}.prototxt")
"""


def checksums(folder: Path, seed: str, threads: str) -> dict[str, str]:
    folder.mkdir()
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, "PYTHONHASHSEED": seed, **dict.fromkeys(variables, threads)}
    names = [name for name in NETS if (CASES / name).is_dir()]
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(CASES), str(folder), *names],
        env=environment,
        cwd=folder,
        check=True,
        timeout=300,
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_same_bytes_in_every_process(tmp_path: Path) -> None:
    first = checksums(tmp_path / "a", "0", "1")
    assert len(first) >= 15
    assert checksums(tmp_path / "b", "1", "2") == first
    assert checksums(tmp_path / "a folder of another name", "4242", "7") == first
