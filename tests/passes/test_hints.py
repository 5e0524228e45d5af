"""Hints of forks are ignored, each by its own line of a table; what changes numbers is not."""

from __future__ import annotations

import pytest

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.graph import Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import BlobSource, Options
from caffe2torch.passes.hints import LAYER_HINTS, NET_HINTS
from caffe2torch.pipeline import build_graph

INPUT = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 3, 7, 5] } } }
"""
CONV = "convolution_param { num_output: 6 kernel_size: 3 %s }"
NORM = "batch_norm_param { eps: 0.1 %s }"


def read(kind: str, more: str, net: str = "") -> Graph:
    layer = f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" {more} }}'
    return build_graph(parse_prototxt(net + INPUT + layer))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("ReLU", 'engine: "MKLDNN"'),
        ("ReLU", "relu_param { engine: MKL2017 }"),
        ("Pooling", "pooling_param { kernel_size: 2 engine: DNNL }"),
        ("LRN", "lrn_param { engine: 4 }"),
        ("Concat", "concat_param { engine: MKLDNN }"),
        ("Convolution", CONV % 'conv_algorithm: "winograd" engine: MKLDNN'),
        ("Convolution", CONV % "cudnn_convolution_algo_seeker: GET" + " forward_type: FLOAT16"),
        ("Convolution", CONV % "weight_filler { type: 'msra' negative_slope: 0.25 }"),
        ("Convolution", CONV % "weight_filler { type: 'msra' alpha: 5.5 }"),
        ("Convolution", CONV % "" + " param { lr_mult: 1 force_mult: 1 }"),
        ("BatchNorm", NORM % "engine: CUDNN"),
        ("BatchNorm", NORM % "filler { value: 1 } bias_filler { value: 0 }"),
    ],
)
def test_hints_do_not_change_the_net(kind: str, more: str) -> None:
    graph = read(kind, more)
    assert graph.warnings == ()
    assert not any(node.proto.unknown_field for node in graph.nodes)
    assert [len(node.params) for node in graph.nodes] in ([0], [2], [3])


def test_a_filler_of_a_fork_is_asked_for_where_it_fills() -> None:
    filler = "weight_filler { type: 'expectation' expectation_option: 'xy' width: 5 height: 7 }"
    text = f"{INPUT} layer {{ name: 'l' type: 'InnerProduct' bottom: 'x' top: 'y' "
    text += f"inner_product_param {{ num_output: 2 bias_term: false axis: -2 {filler} }} }}"
    graph = build_graph(parse_prototxt(text))
    assert not any(node.proto.unknown_field for node in graph.nodes)
    with pytest.raises(UnsupportedLayerError, match="unknown filler type 'expectation'"):
        build_graph(parse_prototxt(text), BlobSource(), options=Options(allow_missing=True))


def test_a_layer_that_would_be_rounded_is_warned_of() -> None:
    graph = read("Convolution", CONV % "" + "quantization_param { bw_params: 8 scale_in: 1.5 }")
    (warning,) = graph.warnings
    assert "Intel's Caffe computes in int8, are converted in float32: 1" in warning


@pytest.mark.parametrize(
    ("kind", "more", "field"),
    [
        ("Convolution", CONV % "relu: true", "convolution_param.relu"),
        ("Convolution", CONV % "engines: CAFFE", "convolution_param.engines"),
        ("ReLU", "quantization_param { bw_layer_in: 8 }", "quantization_param"),
        ("BatchNorm", NORM % "relu: true", "batch_norm_param.relu"),
        (
            "DetectionOutput",
            "detection_output_param { num_classes: 2 nms_param { soft_nms: true } }",
            "detection_output_param.nms_param.soft_nms",
        ),
        ("Concat", "concat_param { per_fla_fuse: true }", "concat_param.per_fla_fuse"),
    ],
)
def test_what_changes_numbers_is_refused(kind: str, more: str, field: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"unknown parameter {field}"):
        read(kind, more)


def test_a_filler_that_reads_a_file_needs_weights() -> None:
    fields = "bias_filler { type: 'file' file: 'bias.txt' }"
    layer = f'layer {{ name: "l" type: "Convolution" bottom: "x" top: "y" {CONV % fields} }}'
    net = parse_prototxt(INPUT + layer)
    assert set(build_graph(net).params) == {"l.weight", "l.bias"}
    with pytest.raises(UnsupportedLayerError, match="unknown filler type 'file'"):
        build_graph(net, BlobSource(), options=Options(allow_missing=True))


def test_ristretto_rounds_in_types_of_its_own() -> None:
    with pytest.raises(UnsupportedLayerError, match="'ConvolutionRistretto' is not supported"):
        read("ConvolutionRistretto", CONV % "" + "quantization_param { bw_params: 8 }")


def test_fields_of_the_net() -> None:
    net = "default_forward_type: FLOAT16 engine: 'MKLDNN' eltwise_mem_sharing: true "
    net += "mem_param { optimize_train: true } richness: 1000 print_net_info: false "
    assert read("ReLU", "", net).outputs == ("y",)
    with pytest.raises(NetError, match=r"unknown field of the net: z: 1 \(line 1"):
        read("ReLU", "", "z: 1 ")


def test_how_many_items_a_batch_norm_of_the_batch_takes_is_no_hint() -> None:
    net = "bn_stats_batch_size: 32 "
    assert read("BatchNorm", NORM % "stats_batch_size: 8", net).outputs == ("y",)
    with pytest.raises(NetError, match="bn_stats_batch_size"):
        read("BatchNorm", NORM % "use_global_stats: false", net)
    with pytest.raises(UnsupportedLayerError, match="stats_batch_size"):
        read("BatchNorm", NORM % "use_global_stats: false stats_batch_size: 8")


def test_the_image_that_detections_are_drawn_on_is_not_needed() -> None:
    net = parse_prototxt(
        """layer { name: "in" type: "Input" top: "loc" top: "conf" top: "prior" top: "x"
          input_param { shape { dim: [1, 8] } shape { dim: [1, 6] } shape { dim: [1, 2, 8] }
            shape { dim: [1, 3, 9, 9] } } }
        layer { name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior"
          bottom: "x" top: "d" detection_output_param { num_classes: 3 visualize: true
            nms_param { nms_threshold: 0.5 top_k: 5 } keep_top_k: 5 } }"""
    )
    graph = build_graph(net)
    assert graph.nodes[0].inputs == ("loc", "conf", "prior")


def test_every_hint_has_a_reason() -> None:
    assert all(hint.reason for hint in (*LAYER_HINTS, *NET_HINTS))


def test_a_data_layer_may_repeat_what_caffe_has_once() -> None:
    transform = "transform_param { crop_size: 7 resize_param { height: 9 } resize_param { } %s }"
    data = f'layer {{ name: "d" type: "Data" top: "x" {transform} }}'
    tail = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    graph = build_graph(parse_prototxt(data % "force_gray: true" + tail))
    assert graph.shapes["x"] == (1, 1, 7, 7)
    assert "transform_param.resize_param (line 1" in graph.warnings[0]
    assert (
        "transform_param.scale: 3"
        in build_graph(parse_prototxt(data % "force_gray: true scale: 2 scale: 3" + tail)).warnings[
            0
        ]
    )
