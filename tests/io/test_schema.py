"""The compiled schema is the one of proto/caffe.proto, and it has the facts of Caffe's."""

from __future__ import annotations

import csv
import struct
from collections.abc import MutableSequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from support import genuine

from caffe2torch.io.schema import enum_name, enum_value, message_class, pool

ROOT = Path(__file__).parents[2]
TYPES = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string",
    12: "bytes", 13: "uint32",
}  # fmt: skip

# SSD gave these fields numbers that are others' in BVLC Caffe; solvers are only ever text.
OWN = {
    ("SolverParameter", "eval_type"): 10041,
    ("SolverParameter", "ap_version"): 10042,
    ("SolverParameter", "plateau_winsize"): 10043,
    ("SolverParameter", "show_per_class_result"): 10044,
}


def test_descriptor_is_up_to_date(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    source = ROOT / "proto" / "caffe.proto"
    target = tmp_path / "caffe.desc"
    command = ["protoc", f"-I{source.parent}", f"--descriptor_set_out={target}", str(source)]
    assert protoc.main(command) == 0
    compiled, shipped = (
        descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
        for path in (target, ROOT / "caffe2torch" / "io" / "caffe.desc")
    )
    assert compiled == shipped, "run python tools/compile_schema.py"


def field_facts(field: Any) -> tuple[str, str]:
    if field.message_type is not None:
        return field.message_type.full_name.removeprefix("caffe."), "-"
    if field.enum_type is not None:
        kind = field.enum_type.full_name.removeprefix("caffe.")
        values = field.enum_type.values_by_number
        return kind, values[field.default_value].name if field.has_default_value else "-"
    default = "-"
    if field.has_default_value:
        value = field.default_value
        default = str(value).lower() if isinstance(value, bool) else str(value)
    return TYPES[field.type], default


def field_label(message: str, field: Any) -> str:
    if not isinstance(getattr(message_class(message)(), field.name), MutableSequence):
        return "optional"
    return "repeated packed" if field.GetOptions().packed else "repeated"


def same_default(kind: str, first: str, second: str) -> bool:
    if kind != "float" or "-" in (first, second):
        return first == second
    return struct.pack("f", float(first)) == struct.pack("f", float(second))


def test_facts_of_caffes_schema() -> None:
    wrong = []
    with genuine("SCHEMA_FACTS").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        message, name, label = row["message"], row["field"], row["label"]
        if label == "enum":
            values = pool().FindEnumTypeByName(f"caffe.{message}").values_by_name
            first = int(row["number"].split("..")[0])  # A row can be of many values: 0..4.
            for number, value in enumerate(name.split(","), first):
                if value not in values or values[value].number != number:
                    wrong.append(f"{row} but {value} differs")
            continue
        field = pool().FindMessageTypeByName(f"caffe.{message}").fields_by_name.get(name)
        if field is None:
            wrong.append(f"{message}.{name} is missing")
            continue
        kind, default = field_facts(field)
        number = OWN.get((message, name), int(row["number"]))
        same = same_default(kind, default, row["default"] or "-")
        if (field.number, field_label(message, field), kind) != (number, label, row["type"]):
            same = False
        if not same:
            wrong.append(f"{row} differs")
    assert len(rows) > 700
    assert not wrong, "\n".join(wrong)


def test_enum_names_and_values() -> None:
    assert enum_value("Phase", "TEST") == 1
    pooling = message_class("PoolingParameter")(
        pool=enum_value("PoolingParameter.PoolMethod", "AVE")
    )
    assert enum_name(pooling, "pool") == "AVE"


def test_notes_have_a_field_in_nets_and_layers() -> None:
    for name in ("NetParameter", "LayerParameter", "V1LayerParameter"):
        assert message_class(name).DESCRIPTOR.fields_by_name["unknown_field"].number == 500_000_001
