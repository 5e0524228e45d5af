from __future__ import annotations

import pytest

from caffe2torch.errors import NetError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers import python_params


def params(text: str) -> dict[str, object]:
    net = parse_prototxt('layer { name: "l" type: "Python" python_param { module: "m" } }')
    net.layer[0].python_param.param_str = text
    return python_params(net.layer[0])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("  \n", {}),
        ("{}", {}),
        ("'feat_stride': 16", {"feat_stride": 16}),
        (
            "'feat_stride': 16 \n'scales': !!python/tuple [4, 8, 16, 32]",
            {"feat_stride": 16, "scales": [4, 8, 16, 32]},
        ),
        (
            "{'feat_stride': 32,'scales': [16,32], 'ratios':[1,]}",
            {"feat_stride": 32, "scales": [16, 32], "ratios": [1]},
        ),
        (
            '{"root": "a/b c", "mean": (104.5, 1e-3, -.5), "on": true}',
            {"root": "a/b c", "mean": [104.5, 1e-3, -0.5], "on": True},
        ),
        ("feat_stride: 8 # a comment\nname: it's\n", {"feat_stride": 8, "name": "it's"}),
        ("feat_stride:\n- 4\n- 8\nn: 1", {"feat_stride": [4, 8], "n": 1}),
        ("a:\nb: no", {"a": None, "b": False}),
        ("{a: {b: [1, [2, 3]]}, c: None}", {"a": {"b": [1, [2, 3]]}, "c": None}),
        ("{'path': C:/data, 'n': 2}", {"path": "C:/data", "n": 2}),
        ("{'a': u'x', # why\n 'b': 'it''s'}", {"a": "x", "b": "it's"}),
    ],
)
def test_what_yaml_json_and_python_have_in_common(text, wanted):
    assert params(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["16", "[1, 2]", "{'a': 1", "{'a' 1}", "dict(a=1)", "{'a': 1} b", "'a': [1 2", "a: 'x' y"],
)
def test_anything_else_is_refused_by_place(text):
    with pytest.raises(NetError, match="is not understood at line 1, column") as caught:
        params(text)
    assert "python_param.param_str" in str(caught.value)


def test_nothing_is_executed():
    with pytest.raises(NetError):
        params("__import__('os').abort()")
    assert params("{'a': 2*8}") == {"a": "2*8"}
