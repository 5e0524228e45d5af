"""Every name of genuine pycaffe's modules and classes is there."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

from support import genuine

import caffe2torch.pycaffe as caffe
from caffe2torch.pycaffe import alias

NET = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
SOLVER = (
    'net_param { layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 } '
    '} } layer { name: "s" type: "Scale" bottom: "x" top: "y" loss_weight: 1 scale_param { axis: 0 '
    '} } } base_lr: 1 lr_policy: "fixed"'
)


def test_every_name_of_the_reference_is_there(tmp_path: Path) -> None:
    alias.install()
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    owners: dict[str, Any] = {
        "caffe": caffe,
        "Net": net,
        "Blob": net.blobs["x"],
        "Solver": caffe.get_solver(str(tmp_path / "solver.prototxt")),
        "vectors": sys.modules["caffe._caffe"],
    }
    path = genuine("SHARED", "pycaffe", "api.tsv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    missing = []
    count = 0
    for row in rows:
        if row["scope"] not in owners or "quirk" in row["kind"]:
            continue
        for name in row["name"].split(", "):
            if re.fullmatch(r"\w+", name) and name != row["scope"]:
                count += 1
                if not hasattr(owners[row["scope"]], name):
                    missing.append(f"{row['scope']}.{name}")
    assert count > 90
    assert not missing
