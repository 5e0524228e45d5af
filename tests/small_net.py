"""A small net with a solver of its own, and runs of it by the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from click.testing import CliRunner, Result

from caffe2torch.cli import main
from caffe2torch.io.caffemodel import read_caffemodel

ITEMS, BATCH, CLASSES = 24, 3, 5
OF_PEAK = 1e-5
"""Of a blob's peak: two processes sum in another order than one."""

NET = """
name: "small"
layer { name: "data" type: "HDF5Data" top: "x" top: "label"
  hdf5_data_param { source: "list.txt" batch_size: BATCH } }
layer { name: "frozen" type: "InnerProduct" bottom: "x" top: "f" param { lr_mult: 0 }
  inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "f" top: "f" }
layer { name: "drop" type: "Dropout" bottom: "f" top: "f" dropout_param { dropout_ratio: RATIO } }
layer { name: "ip" type: "InnerProduct" bottom: "f" top: "ip" param { lr_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 5 transpose: true
    weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 12 display: 5 random_seed: 4
test_iter: 2 test_interval: 6 snapshot: 6 snapshot_prefix: "out" solver_mode: CPU
"""
MOMENTUM = 'type: "SGD" momentum: 0.9 weight_decay: 0.01'


def write_data(values: Any, labels: Any) -> None:
    with h5py.File("data.h5", "w") as file:
        file["x"], file["label"] = values.astype("<f4"), labels.astype("<f4")
    Path("list.txt").write_text("data.h5\n")


def write_net(batch: int = BATCH, ratio: float = 0.5, text: str = NET) -> None:
    text = text.replace("BATCH", str(batch)).replace("RATIO", str(ratio))
    Path("net.prototxt").write_text(text)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def train(*arguments: str) -> Result:
    return run("train", "--solver", "solver.prototxt", *arguments)


def blobs(path: str | Path) -> dict[str, Any]:
    weights = read_caffemodel(path)
    return {
        f"{layer.name}/{index}": np.array(blob.data).reshape(blob.shape)
        for layer, found in zip(weights.net.layer, weights.blobs, strict=True)
        for index, blob in enumerate(found)
    }


def assert_same(paths: Iterable[str | Path]) -> None:
    first, second = (blobs(path) for path in paths)
    assert first.keys() == second.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(second[key], array, err_msg=key)
