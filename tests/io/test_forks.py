from __future__ import annotations

import pytest
import wire_bytes as w

from caffe2torch.io.caffemodel import walk
from caffe2torch.io.schema import FORK_FIELDS, message_class


@pytest.mark.parametrize("type_first", [True, False])
@pytest.mark.parametrize("number", [102, 143, 150, 200, 8266711])
@pytest.mark.parametrize("layer_type", FORK_FIELDS)
def test_own_parameters_are_found_by_layer_type(
    layer_type: str, number: int, type_first: bool
) -> None:
    field = FORK_FIELDS[layer_type]
    layer = message_class("LayerParameter")()
    own = getattr(layer, field)
    first = own.DESCRIPTOR.fields[0]
    value = {"scale_filler": None}.get(first.name, 3)
    if value is None:
        own.scale_filler.value = 3
    else:
        setattr(own, first.name, value)
    kind, params = w.text(2, layer_type), w.message(number, own.SerializeToString())
    data = w.message(100, *([kind, params] if type_first else [params, kind]))
    (read,) = walk(data, "x")[0].layer
    assert getattr(read, field) == own
    assert [item[0].name for item in read.ListFields()] == ["type", field]


def test_common_fields_of_fork_layers_stay() -> None:
    common = w.message(100, w.number(3, 227)) + w.message(101, w.number(1, 255)) + w.number(10, 1)
    (layer,) = walk(w.layer("r", type="ReLU6", extra=common), "x")[0].layer
    assert layer.transform_param.crop_size == 227
    assert layer.loss_param.ignore_label == 255
    assert layer.phase == 1
    assert not layer.HasField("relu6_param")


def test_other_layer_types_keep_their_numbers() -> None:
    params = w.message(143, w.message(1, w.number(1, 5))) + w.message(150, w.number(1, 2))
    (layer,) = walk(w.layer("i", type="Input", extra=params), "x")[0].layer
    assert list(layer.input_param.shape[0].dim) == [5]
    assert not layer.unknown_field


def test_two_candidates_are_noted() -> None:
    extra = w.message(150, w.number(1, 2)) + w.message(121, w.number(2, 3))
    (layer,) = walk(w.layer("p", type="Reorg", extra=extra), "x")[0].layer
    assert list(layer.unknown_field) == [
        "fields [121, 150], of which only one can be the layer's reorg_param"
    ]


def test_every_field_is_of_the_schema() -> None:
    fields = message_class("LayerParameter").DESCRIPTOR.fields_by_name
    assert {fields[name].number for name in FORK_FIELDS.values()} == set(range(10001, 10009))
