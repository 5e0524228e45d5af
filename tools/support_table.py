"""Write the table of layer types, with conformance results, into docs/layers.md.

Lowers every net of the corpus to torch, to ONNX and to PyTorch source and compares each with
what Caffe computed, so the table says what was measured::

    python tools/support_table.py          # rewrite the table
    python tools/support_table.py --check  # fail if it is out of date
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.engines.onnxruntime import Session
from caffe2torch.io.atomic import atomic_write
from caffe2torch.layers import Layer, all_layers
from caffe2torch.lower.eager import module_of
from caffe2torch.lower.recorder import Recorder, is_module_alone
from caffe2torch.lower.source_modules import SourceModules
from caffe2torch.lower.to_onnx import OnnxModel, complete, to_onnx
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.summary import support

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "conformance" / "cases"
PAGE = ROOT / "docs" / "layers.md"
BEGIN, END = "<!-- layer table -->", "<!-- end of layer table -->"
TOLERANCE = 1e-4
FORMS = ("torch", "onnx", "source")

SHAPES = {"x": (2, 8, 6, 6), "a": (2, 8), "rois": (3, 5), "mask": (2, 8, 6, 6), "theta": (2, 6),
          "volume": (2, 8, 2, 3, 3), "steps": (5, 2, 3), "flow": (2, 2, 6, 6),
          "flows": (2, 4, 6, 6), "scores": (3, 2), "offsets": (3, 8), "size": (1, 2),
          "anchors": (1, 2, 6, 6), "deltas": (1, 4, 6, 6), "texts": (1, 20, 6, 6),
          "image": (1, 3), "label": (1, 1, 6, 6), "parts": (1, 5, 6, 6), "taps": (2, 18, 6, 6),
          "scale": (2, 1, 6, 6), "map18": (1, 18, 6, 6), "map36": (1, 36, 6, 6),
          "map121": (2, 121, 6, 6), "rings": (3, 9),
          "mask441": (2, 441), "labels": (2,), "taps4": (1, 2, 3, 8), "scores4": (1, 24),
          "priors4": (1, 2, 48)}  # fmt: skip
WITHOUT_A_CASE: tuple[tuple[Any, ...], ...] = (
    ("Accum", ("x", "mask"), "accum_param { top_height: 9 top_width: 9 }"),
    ("AutoCrop", ("x", "x"), ""),
    ("Axpy", ("a", "x", "mask"), ""),
    ("BinaryConvolution", ("x",), "convolution_param { num_output: 4 kernel_size: 3 }"),
    ("BinaryInnerProduct", ("x",), "inner_product_param { num_output: 4 }"),
    ("BN", ("x",), "bn_param { bn_mode: INFERENCE }"),
    ("BoxGroupOutput", ("x", "flows"), "box_group_output_param { box_group_param { field_w: 40 "
     "field_h: 40 stride: 8 } }"),
    ("BoxOutput", ("x", "mask"), "box_output_param { field_w: 20 field_h: 40 downsample_rate: 8 "
     "field_w: 80 field_h: 60 downsample_rate: 8 }"),
    ("BReLU", ("x",), "brelu_param { minval: 0 maxval: 1 }"),
    ("ChannelNorm", ("x",), ""),
    ("ChannelScale", ("x", "scale"), ""),
    ("CompactBilinear", ("x", "mask"), "compact_bilinear_param { num_output: 9 }"),
    ("ContinuationIndicator", (), "continuation_indicator_param { time_step: 5 batch_size: 3 }"),
    ("Convert", ("steps",), "", 2),
    ("Convolution3D", ("volume",), "convolution3d_param { num_output: 4 kernel_size: 3 "
     "kernel_depth: 2 pad: 1 }"),
    ("ConvolutionDepthwise", ("x",), "convolution_param { num_output: 8 kernel_size: 3 }"),
    ("ConvolutionND", ("volume",), "convolution_param { num_output: 4 kernel_size: 2 }"),
    ("Correlation", ("x", "mask"), "correlation_param { pad: 4 kernel_size: 1 "
     "max_displacement: 4 stride_2: 2 }"),
    ("Correlation", ("x", "mask"), "correlation_param { kernel_size: 1 max_displacement: 1 "
     "correlation_type: SUBTRACT }"),
    ("Correlation1D", ("x", "mask"), "correlation_param { pad: 4 kernel_size: 1 "
     "max_displacement: 4 stride_2: 2 }"),
    ("CTCGreedyDecoder", ("steps",), ""),
    ("CuDNNBatchNorm", ("x",), ""),
    ("DataAugmentation", ("x",), "augmentation_param { crop_width: 4 crop_height: 4 "
     "recompute_mean: 1 }"),
    ("DecodeBBox", ("offsets", "rois"), ""),
    ("Deconvolution3D", ("volume",), "convolution_param { num_output: 4 kernel_size: 3 "
     "kernel_depth: 2 }"),
    ("DeephiResize", ("x",), "deephi_resize_param { scale_h: 2 scale_w: 2 }"),
    ("DetectionOutputExtended", ("taps4", "scores4", "priors4"), "detection_output_param { "
     "num_classes: 2 }"),
    ("DetectionCcpdOutput", ("a",) * 7, "lp_det_param { num_chinese: 8 num_english: 8 "
     "num_letter: 8 }"),
    ("DenseBlock", ("x",), "denseblock_param { numTransition: 2 growthRate: 3 initChannel: 8 }"),
    ("DeformableConvolution", ("x", "taps"), "deformable_convolution_param { num_output: 4 "
     "kernel_size: 3 pad: 1 deformable_group: 1 }"),
    ("DepthwiseConvolution", ("x",), "convolution_param { num_output: 8 kernel_size: 3 }"),
    ("Downsample", ("x",), "downsample_param { top_height: 3 top_width: 4 }"),
    ("EltwiseAffine", ("x",), ""),
    ("EuclideanDistance", ("a", "a"), ""),
    ("ExpMax", ("x",), ""),
    ("Extend", ("x",), "orn_param { orientations: 4 }"),
    ("Flip", ("x",), ""),
    ("FlowWarp", ("x", "flow"), ""),
    ("FrcnnOutput", ("scores", "offsets", "rois", "size"), ""),
    ("FrcnnProposal", ("anchors", "deltas", "image"), "proposal_param { feat_stride: 16 "
     "anchors: 0 anchors: 0 anchors: 15 anchors: 15 test_rpn_pre_nms_top_n: 6000 "
     "test_rpn_post_nms_top_n: 300 test_rpn_nms_thresh: 0.7 test_rpn_min_size: 16 }"),
    ("Gather", ("x",), ""),
    ("Gram", ("x",), ""),
    ("Grid", ("x",), ""),
    ("GSTiling", ("x",), "gs_tiling_param { stride: 2 reverse: true }"),
    ("HardSigmoid", ("x",), ""),
    ("HardSwish", ("x",), ""),
    ("ImResize", ("anchors",), "imresize_param { factor: 2 }"),
    ("InnerDistance", ("x",), "inner_distance_param { num_output: 4 distance_type: 'L1' }"),
    ("InnerDistance", ("x",), "inner_distance_param { num_output: 4 distance_type: 'L2' }"),
    ("Insanity", ("x",), ""),
    ("Interp", ("x",), "interp_param { zoom_factor: 2 }"),
    ("L2Norm", ("a",), ""),
    ("L2Normalize", ("a",), ""),
    ("LabelSpecificAdd", ("a", "labels"), "label_specific_add_param { bias: -0.35 }"),
    ("Lstm", ("steps",), "lstm_param { num_output: 4 }"),
    ("MaskOutputs", ("x", "labels"), "mask_outputs_param { kernel_size: 4 }"),
    ("MaskPooling", ("x", "scale"), ""),
    ("MaskResize", ("x",), "mask_resize_param { output_height: 3 output_width: 3 }"),
    ("Mean", ("x",), "mean_param { operation: SUBTRACT value: 104 value: 117 }"),
    ("MergeCrop", ("x", "mask"), ""),
    ("Mish", ("x",), ""),
    ("NdConvolution", ("volume",), "convolution_param { num_output: 4 kernel_shape { dim: 2 "
     "dim: 3 dim: 3 } }"),
    ("NdPooling", ("volume",), "pooling_param { kernel_shape { dim: 1 dim: 2 dim: 2 } }"),
    ("NdPooling", ("volume",), "pooling_param { pool: AVE kernel_shape { dim: 1 dim: 2 dim: 2 } "
     "}"),
    ("NegSquare", ("x",), ""),
    ("Nms", ("deltas",), "nms_param { num_parts: 2 }"),
    ("Noise", ("x",), "noise_param { gaussian_std: 1 }"),
    ("Norm", ("x",), ""),
    ("ORPooling", ("x",), "orn_param { orientations: 4 }"),
    ("Padding", ("x",), "padding_param { pad_beg: 1 pad_end: 1 }"),
    ("PeriodicShuffle", ("x",), "periodic_shuffle_param { num_output: 2 group_size: 2 }"),
    ("PointwiseSpatialAttention", ("x", "map121"), "pointwise_spatial_attention_param { "
     "is_softmax: true }"),
    ("Pooling3D", ("volume",), "pooling3d_param { kernel_size: 2 kernel_depth: 2 }"),
    ("Pooling3D", ("volume",), "pooling3d_param { pool: AVE kernel_size: 2 kernel_depth: 2 }"),
    ("PoolingND", ("volume",), "pooling_param { kernel_size: 2 }"),
    ("PriorBoxClustered", ("x", "mask"), "prior_box_param { width: 2 height: 2 }"),
    ("Proposal", ("anchors", "deltas", "image"), "proposal_param { ratio: 1 scale: 8 }"),
    ("PSROIPooling", ("x", "rois"), "psroi_pooling_param { output_dim: 2 group_size: 2 "
     "spatial_scale: 1 }"),
    ("Python", ("x",), 'python_param { module: "ordinal_decode_layer" layer: '
     '"OrdinalDecodeLayer" }'),
    ("Python", ("x",), 'python_param { module: "pylayers" layer: "SoftmaxLayer" }'),
    ("Python", ("label", "label", "parts", "parts"), 'python_param { module: '
     '"CombineRegressions" layer: "CombineRegressionsLayer" }', 2),
    ("Python", ("label", "label", "parts", "parts"), 'python_param { module: '
     '"CombineRegressionsHuman" layer: "CombineRegressionsLayer" }', 2),
    ("Python", ("steps",), 'python_param { module: "ds2_cont_filler_layer" '
     'layer: "DS2ContFillerLayer" }'),
    ("Python", ("texts", "texts", "image"), 'python_param { module: "layers.text_proposal_layer" '
     'layer: "ProposalLayer" param_str: "{feat_stride: 16}" }', 2),
    ("Python", ("anchors", "deltas", "image"), 'python_param { module: "rpn.proposal_layer" '
     'layer: "ProposalLayer" param_str: "{feat_stride: 16, scales: [8], ratios: [1]}" }'),
    ("Python", ("anchors", "deltas", "image"), 'python_param { module: '
     '"SSH.layers.proposal_layer" layer: "ProposalLayer" '
     'param_str: "{feat_stride: 16, scales: [8], ratios: [1]}" }'),
    ("Python", ("map18", "map36", "image"), 'python_param { module: "pylayer.proposal_layer" '
     'layer: "ProposalLayer" param_str: "{feat_stride: 16}" }'),
    ("Python", ("mask441",), 'python_param { module: "pylayer.mask_layer" layer: "MaskLayer" }'),
    ("Python", ("rois", "offsets", "scores", "image"), 'python_param { module: '
     '"pylayer.stage_bridge_layer" layer: "StageBridgeLayer" }'),
    ("Python", ("x",), 'python_param { module: "spatial_dropout" layer: "SpatialDropoutLayer" '
     'param_str: "{phase: TEST, p: 0.1}" }'),
    ("Quant", ("x",), "quant_param { centers: 0.5 centers: 1 }"),
    ("Region", ("x",), "region_param { num: 1 coords: 4 classes: 3 }"),
    ("RegionPooling", ("x", "rings"), "region_pooling_param { pooled_h: 2 pooled_w: 2 }"),
    ("ReLU6", ("x",), ""),
    ("ReLUX", ("x",), ""),
    ("Remap", ("x", "flow"), ""),
    ("Reorg", ("x",), "reorg_param { stride: 2 }"),
    ("Resample", ("x",), "resample_param { height: 12 width: 9 }"),
    ("Resample", ("x",), "resample_param { height: 12 width: 12 type: NEAREST }"),
    ("Resize", ("x",), "resize_param { is_pyramid_test: false height: 9 "
     "width: 9 }"),
    ("Reverse", ("x",), ""),
    ("ROIAlign", ("x", "rois"), "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"),
    ("ROIMaskPooling", ("x", "rois"), "roi_mask_pooling_param { pooled_h: 3 pooled_w: 3 "
     "roi_scale: 2 }"),
    ("ROIPooling", ("x", "rois"), "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"),
    ("ROIWarping", ("x", "rois"), "roi_warping_param { pooled_h: 2 pooled_w: 2 }"),
    ("RReLU", ("x",), ""),
    ("ScaleFilter", ("x",), "scale_filter_param { min_scale: 1 max_scale: 2 }"),
    ("ScaleRoute", ("rois",), "scale_route_param { high_scale: 112 }"),
    ("Scatter", ("x",), ""),
    ("SeLU", ("x",), ""),
    ("SeLuDropout", ("x",), ""),
    ("ShuffleChannel", ("x",), "shuffle_channel_param { group: 2 }"),
    ("SignedSqrt", ("x",), ""),
    ("SimpleNormalize", ("a",), ""),
    ("SmoothL1Loss", ("x", "mask"), ""),
    ("Sparsify", ("x",), "sparsify_param { coef: 1 }"),
    ("SpatialDropout", ("x",), ""),
    ("SpatialSoftmax", ("x",), ""),
    ("SpatialTransformer", ("x", "theta"), ""),
    ("Tiling", ("x",), "tiling_param { tile_dim: 2 }"),
    ("Transpose", ("x",), "transpose_param { dim: 3 dim: 2 dim: 0 dim: 1 }"),
    ("Unpooling", ("x", "mask"), "unpooling_param { kernel_size: 2 stride: 2 "
     "unpool_size: 12 }"),
    ("Upsample", ("x",), "upsample_param { scale: 2 }"),
    ("Upsample", ("x", "mask"), "upsample_param { scale: 2 }"),
    ("VoxelSoftmax", ("volume",), ""),
    ("Warp", ("x", "flow"), "warp_param { adds_flow: true }"),
    ("YoloDetectionOutput", ("x",), "yolo_detection_output_param { num_classes: 3 "
     "num_box: 1 biases: 1 biases: 1 }"),
    ("Yolov3DetectionOutput", ("x",), "yolov3_detection_output_param { num_classes: 3 "
     "num_box: 1 mask_group_num: 1 mask: 0 biases: 9 biases: 9 anchors_scale: 8 "
     "nms_threshold: 0.45 }"),
)  # fmt: skip
"""Type, bottoms, parameters and, unless it is 1, the number of tops of a layer for each type that
no case of the corpus has: those of Caffe's forks, whose results tests/layers compares with formulas
from their sources. Here they only show what the type becomes."""
EXPRESSION = "expression"
"""What stands for Python operators in the column of torch."""
HOMES = {"Arrays", "nn.Module", "nn.ModuleDict"}
"""Modules that hold arrays or other modules and compute nothing."""


@dataclass
class Row:
    """What was seen of one layer type."""

    nets: int = 0
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FORMS, 0))
    torch: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)


def torch_names(graph: caffe2torch.Graph, node: Any) -> set[str]:
    """The torch module of a node, or what its torch form calls."""
    shapes = [graph.shapes[name] for name in node.inputs]
    module = module_of(node.layer, shapes)
    if type(module).__module__.startswith("torch.") and is_module_alone(node.layer, shapes):
        return {f"nn.{type(module).__name__}"}
    modules, own = SourceModules(graph.params, ()), set[str]()
    inputs = [f"x{i}" for i in range(len(shapes))]
    try:
        tops = Recorder(node, modules, own, {}).tops(inputs, shapes)
    except caffe2torch.UnsupportedLayerError:
        return set()
    texts = [tops] if isinstance(tops, str) else list(tops)
    texts += [line.partition(" = ")[2] for line in modules.statements()]
    names = set()
    for called in ast.walk(ast.parse("\n".join(texts))):
        if isinstance(called, ast.Call):
            head, _, last = ast.unparse(called.func).rpartition(".")
            if head.partition(".")[0] in ("", "nn", "F", "torch"):
                names.add(f"{head}.{last}".lstrip("."))
            elif not head.startswith(("self", "math")):
                names.add(f"Tensor.{last}")
    return {name for name in names if "." in name or name in own} - HOMES or {EXPRESSION}


def record_forms(
    rows: Mapping[str, Row], graph: caffe2torch.Graph, model: OnnxModel | None
) -> None:
    """What each layer of ``graph`` became in torch, and in ``model`` if it has an ONNX form."""
    types = {node.layer.name: node.layer.type for node in graph.nodes}
    for node in graph.nodes:
        rows[node.layer.type].torch |= torch_names(graph, node)
    for made in model.skeleton.graph.node if model else ():
        layer = made.name.rpartition("/")[0]
        if layer in types:
            rows[types[layer]].operators.add(made.op_type)


def run_torch(graph: caffe2torch.Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of the torch module by name."""
    feed = {name: torch.from_numpy(value) for name, value in inputs.items()}
    return {name: value.numpy() for name, value in to_torch(graph).blobs(feed).items()}


def run_onnx(
    graph: caffe2torch.Graph, model: OnnxModel, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """The outputs of ONNX Runtime by name."""
    values = Session(complete(model).SerializeToString()).run(inputs)
    return dict(zip(graph.outputs, values.values(), strict=True))


def run_source(graph: caffe2torch.Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of the emitted file by name; none if a layer has no source form."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "emitted.py"
        try:
            write_graph(graph, path)
        except caffe2torch.UnsupportedLayerError:
            return {}
        spec = importlib.util.spec_from_file_location("emitted", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        result = module.load()(*(torch.from_numpy(inputs[i.name]) for i in graph.inputs))
    values = result if isinstance(result, dict) else {graph.outputs[0]: result}
    return {name: value.numpy() for name, value in values.items()}


def run_case(folder: Path, case: Mapping[str, Any], rows: Mapping[str, Row]) -> None:
    """Add a case to the rows of the layer types that it has."""
    os.chdir(folder)
    with np.load("io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    inputs = {key[3:]: value for key, value in arrays.items() if key.startswith("in/")}
    outputs = {key[4:]: value for key, value in arrays.items() if key.startswith("out/")}
    graph = caffe2torch.read(
        case["weights_file"],
        "net.prototxt",
        phase=case["phase"],
        level=case["level"],
        stages=case["stages"],
        allow_missing=case.get("quirk") == "missing_layer_filler",
    )
    model = to_onnx(graph)
    record_forms(rows, graph, model)
    made = {
        "torch": run_torch(graph, inputs),
        "onnx": run_onnx(graph, model, inputs),
        "source": run_source(graph, inputs),
    }
    for name in case["layer_types"]:
        rows[name].nets += 1
        for form in FORMS:
            rows[name].right[form] += all(
                blob in made[form] and _close(made[form][blob], value)
                for blob, value in outputs.items()
            )


def measure() -> dict[str, Row]:
    """All rows, from the corpus and the nets beside it."""
    rows: dict[str, Row] = defaultdict(Row)
    for path in sorted(CASES.glob("*/case.json")):
        case = json.loads(path.read_text())
        if case["expect"] == "ok" and not str(case["weights_file"]).startswith(".."):
            run_case(path.parent, case, rows)
    for example in WITHOUT_A_CASE:
        graph = caffe2torch.read(None, _net(*example), allow_missing=True)
        has_onnx = type(graph.nodes[-1].layer).to_onnx is not Layer.to_onnx
        record_forms(rows, graph, to_onnx(graph) if has_onnx else None)
    return rows


def table(rows: Mapping[str, Row]) -> str:
    """The Markdown table."""
    lines = [
        "| Caffe type | what it computes | PyTorch | ONNX | source | nets right |",
        "|---|---|---|---|---|---|",
    ]
    for known in support():
        name = known["type"]
        row = rows.get(all_layers()[name].type, Row())
        if known["torch"] == "yes" and not row.torch:
            raise SystemExit(f"{name}: no net shows what it becomes; add one to WITHOUT_A_CASE")
        cells = (
            _link(name),
            _first_sentence(name),
            _code(row.torch) or known["torch"],
            _code(row.operators) or known["onnx"].replace("yes", "none"),
            known["source"],
            f"{' / '.join(str(row.right[f]) for f in FORMS)} of {row.nets}" if row.nets else "-",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Rewrite or check the table."""
    warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    with torch.no_grad():
        new = f"{head}{BEGIN}\n{table(measure())}\n{END}{rest.split(END)[1]}"
    if "--check" in sys.argv[1:]:
        return int(new != text)
    with atomic_write(PAGE) as file:
        file.write(new.encode())
    return 0


def _net(type_: str, bottoms: Sequence[str], param: str, tops: int = 1) -> bytes:
    """A prototxt of one layer."""
    lines = []
    for name in dict.fromkeys(bottoms):
        dims = " ".join(f"dim: {size}" for size in SHAPES[name])
        lines.append(f'input: "{name}" input_shape {{ {dims} }}')
    ends = [f'bottom: "{name}"' for name in bottoms] + [f'top: "y{i}"' for i in range(tops)]
    lines.append(f'layer {{ name: "layer" type: "{type_}" {" ".join(ends)} {param} }}')
    return "\n".join(lines).encode()


def _link(name: str) -> str:
    module = all_layers()[name].__module__.rpartition(".")[2]
    return f"[{name}](../caffe2torch/layers/{module}.py)"


def _first_sentence(name: str) -> str:
    paragraph = " ".join((all_layers()[name].__doc__ or "").split("\n\n")[0].split())
    sentence = paragraph.split(". ")[0].rstrip(".")
    return sentence.replace("``", "`").replace("|", "\\|")


def _code(names: set[str]) -> str:
    ordered = sorted(names - {EXPRESSION}, key=str.lower)
    words = [f"`{name}`" for name in ordered] + [EXPRESSION] * (EXPRESSION in names)
    return ", ".join(words)


def _close(value: np.ndarray, expected: np.ndarray) -> bool:
    if value.shape != expected.shape:
        return False
    usual = np.abs(expected) < np.finfo(np.float32).max
    peak = np.abs(expected[usual]).max(initial=0)
    return bool(np.abs(value[usual] - expected[usual]).max(initial=0) <= TOLERANCE * peak + 1e-6)


if __name__ == "__main__":
    sys.exit(main())
