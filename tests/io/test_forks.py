"""Parameters of forks, which layers declare, in binaries and texts."""

from __future__ import annotations

from collections.abc import MutableSequence

import pytest
import wire_bytes as w

import caffe2torch
from caffe2torch.errors import ReadError, UnsupportedLayerError
from caffe2torch.io.caffemodel import walk
from caffe2torch.io.prototxt import parse_prototxt, read_prototxt, write_prototxt
from caffe2torch.io.schema import Message, message_class
from caffe2torch.layers import TEXT_ONLY, Parameters, all_layers
from caffe2torch.pipeline import build_graph, upgrade_net


def has_numbers(parameters: Parameters) -> bool:
    """Whether the fork's number of a field is known."""
    message = parameters.of(message_class("LayerParameter")())
    return any(field.number < TEXT_ONLY for field in message.DESCRIPTOR.fields)


OWN = {
    name: cls.parameters
    for name, cls in all_layers().items()
    if cls.parameters is not None and cls.parameters.is_own and has_numbers(cls.parameters)
}
"""The own messages that can be in a binary."""


def decoded(data: bytes) -> Message:
    (layer,) = upgrade_net(walk(data, "x")[0]).layer
    return layer


@pytest.mark.parametrize("layer_type", OWN)
def test_own_parameters_are_found_by_layer_type(layer_type: str) -> None:
    own = OWN[layer_type].of(message_class("LayerParameter")())
    first = own.DESCRIPTOR.fields[0]
    if first.message_type is not None:
        value = getattr(own, first.name)
        getattr(value, "add" if isinstance(value, MutableSequence) else "SetInParent")()
    elif isinstance(getattr(own, first.name), MutableSequence):
        getattr(own, first.name).append("3" if first.type == first.TYPE_STRING else 3)
    elif first.type == first.TYPE_STRING:
        setattr(own, first.name, "3")
    else:
        setattr(own, first.name, first.enum_type.values[0].number if first.enum_type else 1)
    for number in (102, 143, 150, 200, 10001, 8266711):
        kind, params = w.text(2, layer_type), w.message(number, own.SerializeToString())
        for parts in ([kind, params], [params, kind]):
            layer = decoded(w.message(100, *parts))
            assert OWN[layer_type].of(layer) == own
            assert [item[0].name for item in layer.ListFields()] == ["type", "unknown_field"]


def test_common_fields_of_fork_layers_stay() -> None:
    common = w.message(100, w.number(3, 227)) + w.message(101, w.number(1, 255)) + w.number(10, 1)
    layer = decoded(w.layer("r", type="ReLU6", extra=common))
    assert layer.transform_param.crop_size == 227
    assert layer.loss_param.ignore_label == 255
    assert layer.phase == 1
    assert not layer.unknown_field


def test_layers_of_caffe_keep_their_numbers_and_note_what_caffe_does_not_know() -> None:
    params = w.message(143, w.message(1, w.number(1, 5))) + w.message(150, w.number(1, 2))
    layer = decoded(w.layer("i", type="Input", extra=params + w.number(12, 3)))
    assert list(layer.input_param.shape[0].dim) == [5]
    assert [field.number for field in layer.unknown_field] == [150]


def test_numbers_of_caffe_that_a_fork_gave_to_others_are_no_values_of_caffe() -> None:
    inner = w.number(1, 4) + w.number(4, 3) + w.number(17, 2)
    layer = decoded(w.layer("c", type="Convolution", extra=w.message(106, inner)))
    assert not layer.convolution_param.force_nd_im2col
    assert [(f.parent, f.number) for f in layer.unknown_field] == [("convolution_param", 17)]


def test_fields_within_parameters_of_caffe_that_nobody_knows_are_refused() -> None:
    inner = w.text(3, "x") + w.text(4, "y") + w.message(117, w.number(1, 4) + w.number(77, 1))
    net = walk(w.layer("f", type="InnerProduct", extra=inner), "x")[0]
    net.input[:] = ["x"]
    net.input_dim[:] = [1, 2, 3, 4]
    with pytest.raises(UnsupportedLayerError, match=r"field 77\..*give the prototxt of the net"):
        build_graph(net)


def test_two_candidates_are_refused() -> None:
    extra = w.message(150, w.number(1, 2)) + w.message(121, w.number(2, 3))
    layer = decoded(w.layer("p", type="Reorg", extra=extra))
    with pytest.raises(ReadError, match=r"reorg_param is given 2 times \(150 and 121\)"):
        OWN["Reorg"].of(layer)


def test_an_unknown_number_within_an_own_message_is_refused() -> None:
    layer = decoded(w.layer("p", type="Reorg", extra=w.message(150, w.number(9, 2))))
    with pytest.raises(ReadError, match=r"layer 'p': field 9 of its reorg_param"):
        OWN["Reorg"].of(layer)


DECLARED = Parameters(
    ("odd_param", "strange_param"),
    """
    // Everything that the language of such messages has.
    repeated Kind kinds = 3;
    enum Kind { PLAIN = 0; SPECIAL = 7; }
    message Inner {
      optional Kind kind = 1 [default = SPECIAL];
      repeated float sizes = 2 [packed = true];
    }
    optional Inner inner = 4;
    optional FillerParameter filler = 5;
    optional PoolingParameter.PoolMethod pool = 6 [default = AVE];
    optional string word = 7 [default = "a b"];
    optional float number = 8 [default = -0.5];
    optional bool text_only = 500000000;
    /* Comments of
       both kinds; quotes of both kinds. */
    optional string quoted = 9 [default = 'a;b'];
    """,
)  # fmt: skip


def layer_of(text: str) -> Message:
    (layer,) = read_prototxt(b'layer {\n  name: "n" type: "Odd"\n  ' + text.encode() + b"\n}").layer
    return layer


def test_a_declared_message_is_read_from_text_with_its_defaults() -> None:
    message = DECLARED.of(
        layer_of(
            "strange_param { kinds: SPECIAL kinds: PLAIN inner { sizes: [1, 2] } "
            'filler { type: "xavier" } text_only: true }'
        )
    )
    assert list(message.kinds) == [7, 0]
    assert (message.inner.kind, list(message.inner.sizes)) == (7, [1, 2])
    assert (message.filler.type, message.pool, message.word) == ("xavier", 1, "a b")
    assert message.number == pytest.approx(-0.5)
    assert message.text_only
    assert message.quoted == "a;b"
    assert not DECLARED.of(layer_of("")).HasField("filler")


def test_errors_in_a_declared_message_tell_the_place() -> None:
    with pytest.raises(ReadError, match=r"^the buffer:3:15: 'odd_param.kind' is not known"):
        DECLARED.of(layer_of("odd_param { kind: PLAIN }"))
    with pytest.raises(ReadError, match=r"^the buffer:3:23: .*not a number"):
        DECLARED.of(layer_of("odd_param { number: 'x' }"))
    with pytest.raises(ReadError, match=r"^the buffer:1:1: the layer's odd_param is given 2 times"):
        DECLARED.of(layer_of("odd_param { number: 1 } strange_param { number: 2 }"))
    with pytest.raises(ReadError, match=r"is given 2 times \(odd_param and odd_param\)"):
        DECLARED.of(layer_of("odd_param { } odd_param { }"))


def test_a_declared_message_may_be_divided() -> None:
    message = DECLARED.of(layer_of("odd_param { number: 1 } strange_param { word: 'w' }"))
    assert (message.number, message.word) == (1, "w")


@pytest.mark.parametrize(
    ("declaration", "cause"),
    [
        ("optional uint32 a = 1", "ends in the middle"),
        ("optional Nothing a = 1;", "'Nothing' is neither declared nor"),
        ("uint32 a = 1;", "'uint32' is neither optional"),
        ("optional uint32 a : 1;", "cannot be here"),
        ("}", "closes nothing"),
    ],
)
def test_wrong_declarations_say_what_is_wrong(declaration: str, cause: str) -> None:
    with pytest.raises(ValueError, match=f"the declaration of odd_param: .*{cause}"):
        Parameters("odd_param", declaration).of(message_class("LayerParameter")())


@pytest.mark.parametrize("in_binary", [False, True])
def test_a_required_field_must_be_given(in_binary: bool) -> None:
    parameters = Parameters(
        "odd_param", "message Step { required float by = 1; } repeated Step step = 2;"
    )
    layer = layer_of("odd_param { step { } }")
    if in_binary:
        layer = decoded(w.layer("n", type="Reorg", extra=w.message(150, w.message(2))))
    with pytest.raises(ReadError, match=r"odd_param lacks step\[0\]\.by, which must be given"):
        parameters.of(layer)


def test_unknown_fields_are_written_where_they_stood() -> None:
    text = (
        'layer { name: "c" type: "Convolution"\n'
        "  convolution_param { num_output: 4 weight_filler { odd: 3 } hole: 2 }\n"
        '  odd_param { a: "}" } }\n'
        'layer { name: "d" dropout_param { odd: false } }'
    )
    net = parse_prototxt(text)
    again = parse_prototxt(write_prototxt(net))
    assert [[(f.parent, f.name, f.text) for f in layer.unknown_field] for layer in again.layer] == [
        [
            ("convolution_param.weight_filler", "odd", "odd: 3"),
            ("convolution_param", "hole", "hole: 2"),
            ("", "odd_param", 'odd_param { a: "}" }'),
        ],
        [("dropout_param", "odd", "odd: false")],
    ]
    assert again.layer[0].convolution_param == net.layer[0].convolution_param


def test_a_binary_of_caffe_on_spark_is_read_alone_and_with_its_prototxt() -> None:
    # As the published open_nsfw ResNet has it: 10000 and 10001 in MemoryData and beside it.
    source = w.message(119, w.number(1, 2) + w.number(2, 3) + w.number(3, 5) + w.number(4, 7))
    fork = w.message(119, w.number(10000, 1) + w.number(10001, 2)) + w.message(10001, b"\x08\x01")
    tops = w.text(4, "data") + w.text(4, "label")
    scores = w.text(3, "data") + w.text(4, "y") + w.message(117, w.number(1, 2))
    weight = w.shape(2, 105) + w.packed(5, [0.5] * 210)
    bias = w.shape(2) + w.packed(5, [1.0, 2.0])
    data = w.layer("data", type="MemoryData", extra=tops + source + fork)
    data += w.layer("y", weight, bias, type="InnerProduct", extra=scores)
    with pytest.warns(caffe2torch.Caffe2TorchWarning, match="becomes an input"):
        alone = caffe2torch.read(data)
    assert (alone.inputs[0].shape, alone.outputs) == ((1, 3, 5, 7), ("y",))
    assert alone.params["y.bias"].tolist() == [1, 2]
    text = b'input: "data" input_dim: [1, 3, 5, 7] layer { name: "y" type: "InnerProduct"' + (
        b'bottom: "data" top: "y" inner_product_param { num_output: 2 } }'
    )
    assert caffe2torch.read(data, text).params["y.bias"].tolist() == [1, 2]


def test_a_number_of_caffe_and_one_of_a_fork_for_one_type() -> None:
    ends = w.text(3, "x") + w.text(4, "y")
    of_ssd = w.layer("n", type="Normalize", extra=ends + w.message(206, w.number(1, 0)))
    assert not decoded(of_ssd).norm_param.across_spatial
    assert not decoded(of_ssd).unknown_field
    of_happynear = w.layer("n", type="Normalize", extra=ends + w.message(214, w.text(1, "L1")))
    (unknown,) = decoded(of_happynear).unknown_field
    assert unknown.number == 214
    cls = all_layers()["Normalize"]
    assert cls.parameters is not None
    assert cls.parameters.of(decoded(of_happynear)).normalize_type == "L1"


def test_a_v1_type_that_is_only_a_number_asks_for_the_prototxt() -> None:
    source = w.message(2, w.text(3, "x"), w.text(4, "odd"), w.number(5, 77), w.text(2, "y"))
    net, _ = walk(w.text(3, "x") + b"".join(w.number(4, n) for n in (1, 3, 5, 7)) + source, "x")
    with pytest.raises(UnsupportedLayerError) as caught:
        build_graph(net)
    assert "'number 77 of a fork' is not supported" in str(caught.value)
    assert "Give the net's prototxt, which has its name" in str(caught.value)
