"""Caffe's messages as programs meet them: fields, enums, text, bytes, pickle."""

from __future__ import annotations

import csv
import pickle

import pytest
from google.protobuf import text_format
from support import genuine

from caffe2torch.io.schema import message_class
from caffe2torch.pycaffe.proto import caffe_pb2

NET = 'name: "n" layer { name: "p" type: "Pooling" pooling_param { pool: AVE kernel_size: 3 } }'


def test_messages_have_caffes_fields_and_no_others() -> None:
    with genuine("SHARED", "pycaffe", "api.tsv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if r["kind"] == "message"]
    wrong = []
    for row in rows:
        message = getattr(caffe_pb2, row["name"])
        if len(message.DESCRIPTOR.fields) != int(row["signature"].split()[0]):
            wrong.append((row["name"], row["signature"], len(message.DESCRIPTOR.fields)))
        for enum in row["behaviour"].split("; ") if "=" in row["behaviour"] else ():
            name, _, values = enum.partition(": ")
            found = dict(getattr(message, name).items())
            given = {k: int(v) for k, v in (pair.split("=") for pair in values.split())}
            if found != given or any(getattr(message, k) != v for k, v in given.items()):
                wrong.append((row["name"], enum, found))
    assert rows
    assert not wrong


def test_messages_have_no_fields_of_this_package_or_of_forks() -> None:
    layer = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    assert len(layer) == 60
    assert not {"place", "unknown_field", "permute_param"} & set(layer)
    assert not hasattr(caffe_pb2, "UnknownField")
    assert caffe_pb2.V1LayerParameter.LayerType.Name(5) == "DATA"
    assert len(caffe_pb2.V1LayerParameter.LayerType.items()) == 40


def test_enums_stand_in_the_module_and_in_their_messages() -> None:
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Value("TEST") == 1
    assert caffe_pb2.Phase.Name(0) == "TRAIN"
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4
    assert caffe_pb2.PoolingParameter.PoolMethod.items() == [
        ("MAX", 0),
        ("AVE", 1),
        ("STOCHASTIC", 2),
    ]


def test_text_and_bytes_are_read_and_written() -> None:
    net = text_format.Merge(NET, caffe_pb2.NetParameter())
    assert net.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
    assert "pool: AVE" in str(net)
    again = caffe_pb2.NetParameter()
    again.ParseFromString(net.SerializeToString())
    assert again == net
    with pytest.raises(text_format.ParseError, match="zork"):
        text_format.Merge("zork: 1", caffe_pb2.NetParameter())


def test_what_a_fork_wrote_into_a_binary_is_kept() -> None:
    fork = message_class("NetParameter")()
    fork.layer.add(name="p", type="Permute").permute_param.order.extend([0, 2, 1])
    data = fork.SerializeToString()
    assert caffe_pb2.NetParameter.FromString(data).SerializeToString() == data


def test_messages_are_pickled() -> None:
    net = text_format.Merge(NET, caffe_pb2.NetParameter())
    assert pickle.loads(pickle.dumps(net)) == net
