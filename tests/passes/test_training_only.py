"""Sources become inputs, ends of training are left out, and the rest is refused at once."""

from __future__ import annotations

import pytest

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.graph import Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import Options
from caffe2torch.pipeline import build_graph

DATA = 'layer { name: "d" type: "Data" top: "x" top: "label" transform_param { crop_size: 7 } }'
INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
FC = "inner_product_param { num_output: 3 }"
X = {"x": (1, 3, 7, 5)}


def layer(name: str, kind: str, bottoms: str, tops: str, more: str = "") -> str:
    ends = "".join(f' bottom: "{b}"' for b in bottoms.split())
    ends += "".join(f' top: "{t}"' for t in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}"{ends} {more} }}'


def python(name: str, kind: str, bottoms: str, tops: str) -> str:
    module, _, cls = kind.rpartition(".")
    param = f'python_param {{ module: "{module}" layer: "{cls}" }}'
    return layer(name, "Python", bottoms, tops, param)


def read(*layers: str, **shapes: tuple[int, ...]) -> Graph:
    return build_graph(parse_prototxt("\n".join(layers)), options=Options(input_shapes=shapes))


def names(graph: Graph) -> list[str]:
    return [node.layer.name for node in graph.nodes]


def fed(graph: Graph) -> list[str]:
    return [i.name for i in graph.inputs]


def test_losses_on_labels_of_a_data_layer_are_left_out() -> None:
    graph = read(
        DATA,
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("loss", "SoftmaxWithLoss", "fc label", "loss"),
        layer("acc", "Accuracy", "fc label", "acc"),
        layer("quiet", "Silence", "label", ""),
        x=(1, 3, 7, 7),
    )
    assert (fed(graph), names(graph), graph.outputs) == (["x"], ["fc"], ("fc",))
    assert graph.warnings == ()


def test_a_label_that_the_net_computes_with_is_an_input_whose_shape_is_asked_for() -> None:
    layers = (DATA, layer("e", "Eltwise", "x label", "y"))
    with pytest.raises(NetError, match=r"layer 'd' \(Data\).*'label'.*--input-shape label=1,"):
        read(*layers, x=(1, 3, 7, 7))
    graph = read(*layers, x=(1, 3, 7, 7), label=(1, 3, 7, 7))
    assert (fed(graph), graph.outputs) == (["x", "label"], ("y",))


def test_what_only_labels_go_through_is_left_out_with_its_loss() -> None:
    graph = read(
        layer("d", "HDF5Data", "", "label x"),
        layer("s", "Slice", "label", "a b", "slice_param { axis: 1 }"),
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("l1", "EuclideanLoss", "a fc", "l1"),
        layer("l2", "EuclideanLoss", "fc b", "l2"),
        x=(1, 4),
    )
    assert (fed(graph), names(graph)) == (["x"], ["fc"])


def test_an_image_that_a_loss_compares_with_stays_an_input() -> None:
    graph = read(
        layer("d", "Data", "", "x"),
        layer("flat", "Flatten", "x", "flat"),
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("loss", "EuclideanLoss", "fc flat", "loss"),
        x=(1, 3, 1, 1),
    )
    assert (fed(graph), names(graph)) == (["x"], ["flat", "fc", "loss"])


def test_an_unknown_layer_without_bottoms_is_a_source() -> None:
    graph = read(
        python("data", "roi_data.layer.RoIData", "", "data im_info gt_boxes"),
        layer("p", "Power", "data", "p"),
        layer("q", "Power", "im_info", "q"),
        python("at", "rpn.anchor_target.AnchorTargetLayer", "p gt_boxes im_info", "t w"),
        layer("rt", "Reshape", "t", "rt", "reshape_param { shape { dim: -1 } }"),
        layer("loss", "SmoothL1Loss", "p rt w", "loss"),
        data=(1, 3, 7, 5),
        im_info=(1, 3),
    )
    assert (fed(graph), names(graph)) == (["data", "im_info"], ["p", "q"])
    source, left_out = graph.warnings
    assert "'data' (Python roi_data.layer.RoIData) is not known: 'data', 'im_info'" in source
    assert "'at' (Python rpn.anchor_target.AnchorTargetLayer)" in left_out


def test_a_source_without_a_shape_says_how_to_give_it() -> None:
    with pytest.raises(NetError, match="--input-shape x=1,3,H,W"):
        read(layer("d", "CPMData", "", "x label"), layer("r", "ReLU", "x", "r"))


def test_all_shapes_that_are_lacking_are_named_at_once() -> None:
    with pytest.raises(NetError, match=r"--input-shape a=1,3,H,W.* 'b', 'c' also lack a shape"):
        read(
            layer("d", "OddData", "", "a b"),
            layer("e", "OddData", "", "c"),
            layer("s", "Eltwise", "a b c", "s"),
        )


def test_the_blob_that_an_error_offers_exists() -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        read(layer("l", "OddLoss", "nowhere", "l"))
    assert "--until" not in str(caught.value)


def test_a_source_has_the_crop_and_the_mean_of_its_transform_param() -> None:
    transform = "transform_param { crop_size: 7 mean_value: [1, 2, 3] stroke: 5 }"
    graph = read(layer("d", "CPMData", "", "x", transform), layer("r", "ReLU", "x", "r"))
    assert graph.shapes["x"] == (1, 3, 7, 7)
    assert graph.preprocessing is not None
    assert graph.preprocessing.mean == (1, 2, 3)


def test_unknown_fields_of_data_layers_do_not_matter() -> None:
    more = "transform_param { crop_size: 7 mean_value: [1, 2, 3] pad: 4 } data_param { shuffle: 1 }"
    graph = read(layer("d", "Data", "", "x label", more), layer("r", "ReLU", "x", "r"))
    assert fed(graph) == ["x"]
    (warning,) = graph.warnings
    assert "transform_param.pad: 4" in warning
    assert "data_param.shuffle" in warning


def test_random_numbers_are_inputs_of_their_declared_shapes() -> None:
    param = "dummy_data_param { shape { dim: 2 dim: 5 } data_filler { type: 'gaussian' } }"
    graph = read(layer("noise", "DummyData", "", "z", param), layer("r", "ReLU", "z", "r"))
    assert [(i.name, i.shape) for i in graph.inputs] == [("z", (2, 5))]
    assert "'noise' (DummyData) draws at random: 'z' must be fed" in graph.warnings[0]


@pytest.mark.parametrize(
    "end",
    [
        layer("l", "WarpCTCLoss", "fc x", "l"),
        layer("a", "EvalDetection", "fc", "a"),
        layer("loss3/loss", "Odd", "fc", "l"),
        layer("sink", "Odd", "fc", ""),
        python("v", "vis.VisualizationLayer", "fc", ""),
        layer("m", "MultiBoxLoss", "fc fc fc x", "m"),
        layer("o", "Odd", "fc", "o", "loss_weight: 1"),
        layer("l", "OddLoss", "fc", "l") + layer("p", "Power", "l", "l", "loss_weight: 2"),
        layer("l", "OddLoss", "fc", "l p") + layer("s", "Silence", "p x", ""),
    ],
)
def test_unknown_ends_are_left_out(end: str) -> None:
    graph = read(INPUT, layer("fc", "InnerProduct", "x", "fc", FC), end)
    assert (names(graph), graph.outputs) == (["fc"], ("fc",))
    assert "serve training or tests only" in graph.warnings[0]


def test_a_decoder_with_labels_computes_an_accuracy() -> None:
    graph = read(
        DATA,
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("ctc", "CTCGreedyDecoder", "fc label", "accuracy"),
        layer("loss", "WarpCTCLoss", "fc label", "loss"),
        x=(1, 3, 7, 7),
    )
    assert (fed(graph), names(graph)) == (["x"], ["fc"])


def test_a_net_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(NetError, match="nothing of the net is left for inference"):
        read(DATA, layer("loss", "SoftmaxWithLoss", "x label", "loss"))


def test_an_input_that_only_ends_read_goes_with_them() -> None:
    graph = read(
        'layer { name: "in" type: "Input" top: "x" top: "t" input_param '
        "{ shape { dim: 2 dim: 3 } shape { dim: 7 } } }",
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("l", "TripletLoss", "fc t", "l"),
    )
    assert [(i.name, i.shape) for i in graph.inputs] == [("x", (2, 3))]


def test_a_layer_that_learns_against_the_label_is_an_end() -> None:
    graph = read(
        DATA,
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("margin", "MarginInnerProduct", "fc label", "m lambda"),
        layer("loss", "SoftmaxWithLoss", "m label", "loss"),
        x=(1, 3, 7, 7),
    )
    assert names(graph) == ["fc"]


@pytest.mark.parametrize(
    "tail",
    [
        layer("head", "Odd", "fc", "y"),
        layer("head", "Odd", "fc", "y") + layer("r", "ReLU", "y", "r"),
        layer("head", "OddLoss", "fc", "y") + layer("r", "ReLU", "y", "r"),
        layer("head", "TargetDecode", "fc", "y"),
        layer("head", "Odd", "fc", "y") + layer("l", "SoftmaxWithLoss", "y label", "l"),
    ],
)
def test_what_the_net_computes_with_is_no_end(tail: str) -> None:
    with pytest.raises(UnsupportedLayerError, match="--until fc") as caught:
        read(DATA, layer("fc", "InnerProduct", "x", "fc", FC), tail, x=(1, 3, 7, 7))
    assert (caught.value.layer, caught.value.field) == ("head", "type")


def test_a_sampler_whose_regions_the_net_pools_is_no_end() -> None:
    with pytest.raises(UnsupportedLayerError, match="OddTargetLayer"):
        read(
            python("data", "odd.Data", "", "data gt_boxes"),
            layer("p", "Power", "data", "p"),
            python("odd", "odd.OddTargetLayer", "p gt_boxes", "rois t"),
            layer("pool", "ROIPooling", "p rois", "pool", "roi_pooling_param { pooled_h: 2 }"),
            layer("loss", "SoftmaxWithLoss", "pool t", "loss"),
            data=(1, 3, 7, 5),
        )


def test_a_net_of_nothing_but_an_end_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="'OddLoss' is not supported"):
        read(INPUT, layer("l", "OddLoss", "x", "l"))


def test_an_error_names_every_unknown_type_at_once() -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        read(
            INPUT,
            layer("a", "Odd", "x", "a"),
            python("b", "strange.Thing", "a", "b"),
            layer("c", "Odd", "b", "c"),
            python("d", "strange.Thing", "b", "d"),
        )
    assert "'Odd' is not supported (nor are 'Python strange.Thing' (2))" in str(caught.value)
    assert "--until" not in str(caught.value)


def test_a_loss_of_a_fork_with_weights_is_left_out() -> None:
    layers = (
        layer("d", "Data", "", "x label"),
        layer("w", "Power", "label", "weights"),
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("loss", "SoftmaxWithLoss", "fc label weights", "loss"),
    )
    graph = read(*layers, x=(1, 4))
    assert (fed(graph), names(graph)) == (["x"], ["fc"])
    assert "'loss' (SoftmaxWithLoss)" in graph.warnings[0]
    with pytest.raises(NetError, match="has 3 bottoms; this type takes 2"):
        read(INPUT, layer("loss", "SoftmaxWithLoss", "x x x", "loss"))


def test_what_chooses_the_regions_that_train_is_left_out() -> None:
    graph = read(
        layer("d", "Data", "", "x label"),
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("each", "SoftmaxWithLoss", "fc label", "sum p each"),
        layer("hard", "BoxAnnotatorOHEM", "fc each label", "chosen"),
        layer("loss", "SoftmaxWithLoss", "fc chosen", "loss"),
        x=(1, 4),
    )
    assert (fed(graph), names(graph)) == (["x"], ["fc"])


def test_a_data_layer_of_a_fork_has_more_tops() -> None:
    graph = read(
        layer(
            "d", "Data", "", "x colour shape", "transform_param { crop_size: 7 force_gray: true }"
        ),
        layer("fc", "InnerProduct", "x", "fc", FC),
        layer("l1", "EuclideanLoss", "fc colour", "l1"),
        layer("l2", "EuclideanLoss", "fc shape", "l2"),
    )
    assert (fed(graph), names(graph)) == (["x"], ["fc"])
    assert graph.shapes["x"] == (1, 1, 7, 7)
    assert "'d' (Data) has 3 tops; in Caffe it has 2 at most" in graph.warnings[0]
