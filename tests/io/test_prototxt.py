from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from support import CASES, genuine

from caffe2torch.errors import ReadError
from caffe2torch.io.prototxt import parse_prototxt, read_prototxt
from caffe2torch.io.schema import message_class
from caffe2torch.io.unknown import describe

UNKNOWN_IN_CASES = {"err_unknown_text_field": ["relu_params (line 12, column 3)"]}


def notes(net: Any) -> list[str]:
    layers = [*net.layer, *net.layers]
    fields = [*net.unknown_field, *(note for layer in layers for note in layer.unknown_field)]
    return [describe(field) for field in fields]


def bare(net: Any) -> Any:
    """The net without what is not of Caffe."""
    for message in (net, *net.layer, *net.layers):
        for field in ("place", "text", "unknown_field"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    return net


def error_of(text: str, message: str = "NetParameter") -> str:
    with pytest.raises(ReadError) as caught:
        parse_prototxt(text, "net.prototxt", message)
    return str(caught.value)


@pytest.mark.parametrize(
    "path", sorted(CASES.glob("*/net.prototxt")), ids=lambda path: path.parent.name
)
def test_cases_read_as_protobuf_reads_them(path: Path) -> None:
    net = read_prototxt(path)
    assert notes(net) == UNKNOWN_IN_CASES.get(path.parent.name, [])
    if not notes(net):
        text = path.read_bytes().decode()
        assert bare(net) == text_format.Parse(text, message_class("NetParameter")())


def test_genuine_files() -> None:
    for path in sorted(genuine("MODELS").glob("*/*.prototxt")):
        if path.name != "solver.prototxt":
            assert notes(read_prototxt(path)) == []
        else:
            assert parse_prototxt(path.read_text(), str(path), "SolverParameter").base_lr > 0


def test_unknown_fields_are_noted_where_they_stand() -> None:
    net = parse_prototxt(
        "name: 'n' fork_flag: true\n"
        "layer { name: 'a'\r\n  foo: -1.5e3, bar: 'x' \"y\" # }\n  baz { deep < x: [1, {}] > }; }\n"
        "layer: [ { name: 'b' convolution_param { num_output: 3 weight_filler { odd: 1 } } },\n"
        "  { name: 'c', pooling_param: < pool: LP kernel_size: 2 > } ]\n"
        "layers { name: 'd' type: FORK layer { name: 'e' more: [A, B] } }\n"
        "layer { name: 'f' foo { name: 'not f' } top: 'f' }"
    )
    assert [describe(field) for field in net.unknown_field] == [
        "fork_flag: true (line 1, column 11)"
    ]
    assert [(layer.name, [describe(f) for f in layer.unknown_field]) for layer in net.layer] == [
        (
            "a",
            [
                "foo: -1.5e3 (line 3, column 3)",
                "bar: 'x' \"y\" (line 3, column 16)",
                "baz (line 4, column 3)",
            ],
        ),
        ("b", ["convolution_param.weight_filler.odd: 1 (line 5, column 72)"]),
        ("c", ["pooling_param.pool: LP (line 6, column 33)"]),
        ("f", ["foo (line 8, column 19)"]),
    ]
    assert net.layer[1].convolution_param.num_output == 3
    assert net.layer[2].pooling_param.kernel_size == 2
    assert list(net.layer[3].top) == ["f"]
    assert [describe(field) for field in net.layers[0].unknown_field] == [
        "type: FORK (line 7, column 20)",
        "layer.more: [A, B] (line 7, column 49)",
    ]
    assert net.layers[0].layer.name == "e"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("phase: 7", "phase: 7 (line 1, column 9)"),
        ("phase: BOTH", "phase: BOTH (line 1, column 9)"),
        ("include { phase: MAYBE }", "include.phase: MAYBE (line 1, column 19)"),
        ("pooling_param { engine: MKL; pad: 1 }", "pooling_param.engine: MKL (line 1, column 25)"),
        ("transform_param { resize_param { interp_mode: [LINEAR, LANCZOS9] } }",
         "transform_param.resize_param.interp_mode: [LINEAR, LANCZOS9] (line 1, column 42)"),
        ("unknown_field: 'mine'", "unknown_field: 'mine' (line 1, column 9)"),
        ("unknown_field: ['mine', 'too']", "unknown_field: ['mine', 'too'] (line 1, column 9)"),
        ("x: -inf", "x: -inf (line 1, column 9)"),
        ("x: - 5", "x: - 5 (line 1, column 9)"),
        ("x: 'it\\'s # \"{'", "x: 'it\\'s # \"{' (line 1, column 9)"),
    ],
)  # fmt: skip
def test_what_is_noted_for_a_layer(text: str, note: str) -> None:
    net = parse_prototxt("layer { " + text + " name: 'last' }")
    assert [describe(field) for field in net.layer[0].unknown_field] == [note]
    assert net.layer[0].name == "last"


def test_known_enum_values_by_name_and_number() -> None:
    text = "layer { phase: 0 pooling_param { pool: 0x1 } include { phase: TEST } }"
    (layer,) = parse_prototxt(text).layer
    assert (layer.phase, layer.pooling_param.pool, layer.include[0].phase) == (0, 1, 1)
    assert not layer.unknown_field


def test_solver_and_its_inner_net() -> None:
    text = "base_lr: 0.1 net_param { layer { name: 'a' foo: 1 } bar: 2 }"
    solver = parse_prototxt(text, message="SolverParameter")
    assert solver.base_lr == pytest.approx(0.1)
    (foo,) = solver.net_param.layer[0].unknown_field
    (bar,) = solver.net_param.unknown_field
    assert (describe(foo), describe(bar)) == (
        "foo: 1 (line 1, column 44)",
        "bar: 2 (line 1, column 53)",
    )
    assert error_of("base_lr: 0.1\n  lr_rate: 3", "SolverParameter") == (
        "net.prototxt:2:3: 'lr_rate' is not known in Caffe's schema; correct or remove the field"
    )
    assert "'solver_mode: TPU' is not known" in error_of("solver_mode: TPU", "SolverParameter")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("layer {\n  name: 'a'", "1:7: this bracket is never closed; add the missing '}'"),
        ("x: [1, 2", "1:4: this bracket is never closed; add the missing ']'"),
        ("layer { }\n}", "2:1: '}' closes nothing; remove it, or add what it closes"),
        ("layer {\n name: 'a' >", "2:12: '>' stands here, but the bracket of line 1, column 7 "
         "is to be closed by '}'; one of the two is wrong"),
        ("x { y: [1, 2 }", "1:14: '}' stands here, but the bracket of line 1, column 8 "
         "is to be closed by ']'; one of the two is wrong"),
        ("name: 'a\n'", "1:7: this string is not closed on its line; add the missing quote"),
        (r"name: 'C:\\new\data'",
         r"1:15: '\\d' stands for nothing; write a backslash as two"),
        (r"x: '\777'", r"1:5: '\\777' stands for nothing; write a backslash as two"),
        ("name: @", "1:7: '@' cannot stand here; remove it, or put it in quotes"),
        ("layer { name: 3 }", "1:15: '3' is not text in quotes; put the value in quotes"),
        (
            "layer { type: CONV }",
            '1:15: CONV is not in quotes; a type is written as type: "Convolution" '
            "(CONVOLUTION is its name in the old 'layers' entries)",
        ),
        ("layer {\r\n\tname: 'a'\r\n\tname: 'b' }",
         "3:8: the field 'name' is given twice; keep one of the two"),
        ("layer { relu_param {} relu_param {} }",
         "1:34: the field 'relu_param' is given twice; keep one of the two"),
        ("input_dim: 3.5", "1:12: '3.5' is not a whole number; give one"),
        ("input_dim: 99999999999",
         "1:12: 99999999999 is out of the range that this field can hold; correct it"),
        ("layer { relu_param { negative_slope: x } }", "1:38: 'x' is not a number; give one"),
        ("force_backward: maybe",
         "1:17: the value can only be true or false; give one of them"),
        ("name 'a'", "1:6: a ':' is missing between the field's name and its value"),
        ("layer 5", "1:7: the field holds other fields; put them in '{' and '}'"),
        ("layers { type: 'Convolution' }",
         "1:16: 'Convolution' is not one of the values that this field can have; correct it"),
        ("foo bar", "1:1: a NetParameter has no field 'foo'; correct or remove it"),
        ("name: '\\xff'", "1:13: the text cannot be read: 1:13 : '': Couldn't parse string: "
         "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)  # fmt: skip
def test_errors(text: str, error: str) -> None:
    assert error_of(text) == f"net.prototxt:{error}"


@pytest.mark.parametrize(
    "text",
    [
        "layer {" * 100_000,
        "x {" * 100_000,
        "x: " + "[" * 100_000,
        "x: " + "[" * 100_000 + "]" * 100_000 + "}",
        "layer { convolution_param { " * 100_000,
        "name: '" + "a" * 1_000_000,
        "name: '" + "\\" * 1_000_001,
        "input_dim: " + "9" * 100_000,
        "a" * 1_000_000,
        "[" * 100_000,
        ":" * 100_000,
        "name" + " " * 1_000_000,
    ],
)
def test_hostile_text_is_an_error(text: str) -> None:
    assert len(error_of(text)) < 600


def test_file_errors_and_encodings(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"\xef\xbb\xbf# caf\xe9 in latin-1\r\nlayer { name: 'caf\xc3\xa9' }\r\n")
    assert read_prototxt(path).layer[0].name == "café"
    path.write_bytes(b"layer {\n name: 'caf\xe9' }")
    with pytest.raises(ReadError, match=":2:8: this string is not UTF-8; save the file in UTF-8"):
        read_prototxt(path)
    path.write_bytes(b"net: 'train_val.prototxt'\nbase_lr: 0.1")
    with pytest.raises(ReadError, match=r"describes no layers; give the prototxt of a net"):
        read_prototxt(path)


def test_the_net_within_a_solver_is_read(tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text('base_lr: 0.1\nnet_param {\n name: "n"\n layer { name: "a" odd: 1 }\n}\n')
    net = read_prototxt(path)
    assert (net.name, net.layer[0].name, net.place) == ("n", "a", str(path))
    assert [unknown.name for unknown in net.layer[0].unknown_field] == ["odd"]
    assert net.layer[0].place == f"{path}:4:2"


@pytest.mark.parametrize(
    "word", ["$TARGET_WIDTH$", "$WIDTH", "${WIDTH}", "{{ width }}", "{% if x %}"]
)
def test_a_template_is_called_one(word: str) -> None:
    with pytest.raises(ReadError) as caught:
        parse_prototxt(f"input_dim: {word}")
    assert f"1:12: {word} stands for something that a program writes there" in str(caught.value)
    assert "or give the file that was made of it" in str(caught.value)
