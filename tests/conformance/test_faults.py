"""The nets of ``faults/``: each is right now, or refused for a reason that names the cause."""

from __future__ import annotations

import re
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from support import genuine

import caffe2torch
from caffe2torch.lower.to_onnx import to_onnx

IN_PLACE = "in place, where Caffe overwrites what it still reads"

REFUSED = {
    f"wrong_inplace_{kind}": IN_PLACE
    for kind in (
        "argmax conv1x1 deconv1x1 eltwise_max eltwise_sum ip lrn_across pool_ave pool_max spp"
    ).split()
} | {
    "accepts_infogain_normalize": "loss_param.normalize: is not for this loss",
    "accepts_loss_weight_count": "top: has 2 tops; this type takes 0 to 1",
    "accepts_prelu_5d": "more than four axes",
    "accepts_propagate_down_count": "propagate_down: is given 1 times, and the layer has 2 bottoms",
    "accepts_shared_lr_mismatch": "2 for the shared parameter 'w', which has 1",
    "accepts_too_many_params": "has 2 entries for 1 learned blobs",
    "accepts_zero_size_blob": "has no elements",
    "crash_filler_of_scalar": "the xavier filler needs a blob with axes",
}
"""What the refusal says, by folder."""

RIGHT = (
    "crash_batchnorm_negative_eps",
    "crash_permissive_conv_ip",
    "crash_permissive_transpose",
    "onnx_lrn_alpha0",
    "onnx_lrn_beta0",
    "onnx_split_pad_conv",
    "output_missing_loss_split",
    "refuses_dilation0",
    "refuses_duplicate_names",
    "refuses_minus_space",
    "refuses_scalar_scale_axis",
    "version_bilinear_k2",
    "version_bilinear_k4",
    "version_bilinear_k7",
    "version_bilinear_k9",
    "wrong_inf_im2col_onnx",
    "wrong_layer_phase_batchnorm",
    "wrong_layer_phase_dropout",
    "wrong_nan_eltwise_max_onnx",
    "wrong_nan_max_pool",
)
"""Folders whose record both lowerings reproduce."""


def test_what_was_wrong_is_right() -> None:
    folder = genuine("SHARED", "faults")
    found = {name: golden.findings(golden.Case(folder / name)) for name in RIGHT}
    assert not any(found.values()), golden.table(found)


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_accepted_is_refused(name: str) -> None:
    case = golden.Case(genuine("SHARED", "faults", name))
    with pytest.raises(caffe2torch.Caffe2TorchError, match=re.escape(REFUSED[name])):
        case.read()


@pytest.mark.parametrize(
    ("file", "factor"),
    [("binary_unknown_params/dropout", 0.5), ("wild/fork_dropout_scale_train", 0.75)],
)
def test_fast_rcnns_dropout_scales_in_binary_and_text(file: str, factor: float) -> None:
    folder, name = genuine("SHARED", "faults"), file
    for prototxt in (None, folder / f"{name}.prototxt"):
        module = caffe2torch.load(folder / f"{name}.caffemodel", prototxt)
        x = torch.rand(caffe2torch.read(folder / f"{name}.caffemodel").inputs[0].shape)
        torch.testing.assert_close(module(x), factor * x)


def test_the_boxes_of_opencvs_face_detector_are_clipped() -> None:
    folder = genuine("SHARED", "faults", "face_detector_clip")
    module = caffe2torch.load(folder / "net.caffemodel", folder / "net.prototxt")
    x = 50 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        edges = module(x)[0, 0, :, 3:]
    assert (edges.min(), edges.max()) == (0, 1)


def test_a_second_layer_of_a_name_is_told_where_its_weights_went() -> None:
    folder = genuine("SHARED", "faults", "refuses_duplicate_names")
    with pytest.raises(caffe2torch.WeightsError, match="another layer before it has the same name"):
        caffe2torch.read(folder / "net.caffemodel", folder / "net.prototxt")


def test_a_net_without_outputs_has_no_onnx_file(tmp_path: Path) -> None:
    prototxt = genuine("SHARED", "faults", "onnx_no_outputs", "net.prototxt")
    with pytest.raises(caffe2torch.ArtefactError, match="the net has no outputs"):
        caffe2torch.convert(None, tmp_path / "net.onnx", prototxt)


def test_no_onnx_node_ends_in_an_empty_input() -> None:
    folder = genuine("SHARED", "faults", "gemm_empty_bias")
    model = to_onnx(caffe2torch.read(folder / "net.caffemodel", folder / "net.prototxt"))
    assert all(node.input[-1] for node in model.skeleton.graph.node if node.input)


@pytest.mark.parametrize(
    ("file", "inputs", "shape"),
    [
        ("utf16/net", {"data": (1, 3, 8, 8)}, (1, 4, 8, 8)),
        ("wild/cvgj_input_alone", {"data": (1, 3, 8, 8)}, (1, 3, 8, 8)),
        ("wild/v1_crop", {"data": (1, 3, 8, 8)}, (1, 1, 8, 8)),
        ("wild/v1_unknown_type", {"data": (1, 3, 8, 8)}, (1, 3, 8, 8)),
    ],
)
@pytest.mark.filterwarnings("ignore:layer .* has no weights", "ignore:.* has no crop_param")
def test_what_was_refused_is_read(
    file: str, inputs: dict[str, tuple[int, ...]], shape: tuple[int, ...]
) -> None:
    prototxt = genuine("SHARED", "faults") / f"{file}.prototxt"
    graph = caffe2torch.read(None, prototxt, allow_missing=True)
    assert {i.name: i.shape for i in graph.inputs} == inputs
    assert [graph.shapes[graph.blobs[blob]] for blob in graph.outputs] == [shape]


def test_a_v1_type_that_no_layer_has_is_named_with_its_place() -> None:
    text = genuine("SHARED", "faults", "wild", "v1_unknown_type.prototxt").read_bytes()
    with pytest.raises(caffe2torch.Caffe2TorchError, match=r":3:22: .*layer type 'BNX' is not"):
        caffe2torch.read(None, text.replace(b"type: BN ", b"type: BNX "))


def test_nvidias_batch_norm_scales_and_shifts() -> None:
    prototxt = genuine("SHARED", "faults", "wild", "nv_batchnorm_scale_bias.prototxt")
    with pytest.warns(caffe2torch.Caffe2TorchWarning, match="has no weights"):
        module = caffe2torch.load(None, prototxt, allow_missing=True)
    rng = np.random.default_rng(0)
    state = {key: torch.from_numpy(rng.random(3, np.float32) + 0.5) for key in module.state_dict()}
    module.load_state_dict(state)
    x = torch.from_numpy(rng.standard_normal((1, 3, 8, 8), np.float32))
    own = {key.rpartition(".")[2]: value[:, None, None] for key, value in state.items()}
    expected = (x - own["running_mean"]) / (own["running_var"] + 0.0001).sqrt()
    torch.testing.assert_close(module(x), expected * own["weight"] + own["bias"])
