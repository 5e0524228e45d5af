"""The optimised module computes what the plain one does, for inputs and nets of any kind."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import assert_close, genuine
from torch import Tensor

import caffe2torch
from caffe2torch.errors import NetError
from caffe2torch.lower.fast import FastConvolution, FastModule
from caffe2torch.lower.to_torch import CaffeModule

TOLERANCE = 1e-5
"""Of the peak: a few float32 convolutions, which sum in another order."""
HALF = 5e-3
"""Of the peak, in half precision, whose roundings are 2^-11."""

BLOCK = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 11 dim: 9 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 FILLER } }
layer { name: "ra" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 group: 8 FILLER } }
layer { name: "rb" type: "ReLU" bottom: "b" top: "b" }
layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param {
  num_output: 4 kernel_size: 3 dilation: 2 pad: 2 FILLER } }
layer { name: "cat" type: "Concat" bottom: "b" bottom: "c" top: "cat" }
layer { name: "up" type: "Deconvolution" bottom: "cat" top: "up" convolution_param {
  num_output: 2 kernel_size: 4 stride: 2 pad: 1 FILLER } }
""".replace("FILLER", 'weight_filler { type: "xavier" } bias_filler { value: 0.1 }')


def load(text: str, **options: object) -> CaffeModule:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        return caffe2torch.load(None, text.encode(), allow_missing=True, **options)


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def check(module: CaffeModule, fast: FastModule, x: Tensor, tolerance: float = TOLERANCE) -> None:
    with torch.inference_mode():
        assert_close(fast(x).float(), module(x.clone()).float(), tolerance, absolute=1e-6)


FORMS: dict[str, Callable[[], Tensor]] = {
    "declared": lambda: image(2, 3, 11, 9),
    "no_items": lambda: image(0, 3, 11, 9),
    "one_item": lambda: image(1, 3, 11, 9),
    "one_pixel": lambda: image(1, 3, 1, 1),
    "one_column": lambda: image(5, 3, 13, 1),
    "large": lambda: image(7, 3, 40, 33),
    "channels_last": lambda: image(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "channels_last_one_pixel": lambda: image(2, 1, 1, 3).permute(0, 3, 1, 2),
    "expanded": lambda: image(1, 1, 6, 7).expand(4, 3, 6, 7),
    "every_other": lambda: image(4, 6, 12, 14)[::2, ::2, ::2, ::2],
    "of_a_larger_array": lambda: image(3, 5, 9, 9)[1:, 1:4, 2:7, 3:],
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_input(form: str) -> None:
    module = load(BLOCK)
    fast = caffe2torch.optimize(module)
    x = FORMS[form]()
    check(module, fast, x)
    check(copy.deepcopy(module).double(), copy.deepcopy(fast).double(), x.double())
    if x.numel():
        check(module, copy.deepcopy(fast).bfloat16().float(), x, tolerance=0.1)
        half = copy.deepcopy(module).half(), copy.deepcopy(fast).half()
        check(*half, x.half(), tolerance=HALF)


def test_other_channels_are_refused_as_the_plain_module_does() -> None:
    module = load(BLOCK)
    for net in (module, caffe2torch.optimize(module)):
        with torch.inference_mode(), pytest.raises(NetError, match="need a weight of shape"):
            net(image(2, 5, 11, 9))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    module = load(BLOCK)
    fast = caffe2torch.optimize(module)
    x = image(1, 3, 11, 9)
    x[0, 1, 4, 4] = value
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), module(x), rtol=1e-4, atol=1e-5, equal_nan=True)
        assert not fast(x).isfinite().all()


def test_weights_changed_behind_torch_take_effect() -> None:
    module = load(BLOCK)
    fast = caffe2torch.optimize(module)
    x = image(2, 3, 11, 9)
    check(module, fast, x)
    for net in (module, fast):
        net.get_parameter("a.weight").data.mul_(3)  # Which no version counter sees.
    check(module, fast, x)


def test_optimised_and_changed_in_inference_mode() -> None:
    module = load(BLOCK)
    with torch.inference_mode():
        fast = caffe2torch.optimize(module)
        fast(image(2, 3, 11, 9))
        state = {name: value * 2 for name, value in module.state_dict().items()}
        for net in (module, fast):
            net.load_state_dict(state)
    check(module, fast, image(2, 3, 11, 9))
    fast.get_parameter("a.weight").requires_grad_()
    fast(image(2, 3, 11, 9)).sum().backward()


def test_several_threads() -> None:
    module = load(BLOCK)
    fast = caffe2torch.optimize(module)
    batches = [image(n, 3, 7 + n, 20 - n) for n in range(1, 7)]
    with torch.inference_mode():
        expected = [module(x) for x in batches]
    worst: list[float] = []

    def run(x: Tensor, y: Tensor) -> None:
        with torch.inference_mode():
            worst.extend(float((fast(x) - y).abs().max()) for _ in range(20))

    threads = [threading.Thread(target=run, args=a) for a in zip(batches, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 120
    assert max(worst) < TOLERANCE


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_is_of_the_plain_operators() -> None:
    module = load(BLOCK)
    fast = caffe2torch.optimize(module)
    with torch.no_grad():
        traced = torch.jit.trace(fast, image(2, 3, 11, 9), check_trace=False)
        x = image(1, 3, 2, 1)
        torch.testing.assert_close(traced(x), module(x))


@pytest.mark.parametrize(
    ("parameters", "is_ordinary"),
    [
        ("kernel_size: 3 pad: 2", True),
        ("kernel_size: 3 pad: 3", False),
        ("kernel_size: 3 pad: 4 dilation: 2", True),
        ("kernel_size: 1 pad: 1", False),
        ("kernel_size: 1 dilation: 3", True),
    ],
)
def test_channels_last_only_where_each_window_meets_the_image(
    parameters: str, is_ordinary: bool
) -> None:
    for channels in (1, 2):
        fast = caffe2torch.optimize(
            load(
                f'input: "x" input_shape {{ dim: 1 dim: {channels} dim: 9 dim: 9 }} layer {{ name: '
                f'"c" type: "Convolution" bottom: "x" top: "y" convolution_param {{ num_output: 2 '
                f'{parameters} weight_filler {{ type: "xavier" }} }} }}'
            )
        )
        layer = fast.get_submodule("c")
        assert isinstance(layer, FastConvolution)
        assert layer.is_ordinary == (is_ordinary and channels > 1)


MEMORY = {
    "lstm": """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 5 } } }
layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "l" type: "LSTM" bottom: "x" bottom: "c" top: "y" recurrent_param { num_output: 4
  weight_filler { type: "uniform" min: -1 max: 1 } } }""",
    "parameter": """
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }
layer { name: "q" type: "Power" bottom: "p" top: "p" power_param { scale: 2 shift: 1 } }""",
    "dummy_data": """
layer { name: "p" type: "DummyData" top: "p" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "q" type: "Power" bottom: "p" top: "p" power_param { scale: 2 shift: 1 } }""",
    "batch_norm": """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 5 dim: 4 } } }
layer { name: "b" type: "BatchNorm" bottom: "x" top: "b" phase: TRAIN
  batch_norm_param { use_global_stats: false } }
layer { name: "d" type: "Dropout" bottom: "b" top: "y" phase: TRAIN }""",
}


@pytest.mark.parametrize("name", MEMORY)
def test_what_passes_change_is_left_alone(name: str) -> None:
    module = load(MEMORY[name])
    twin = copy.deepcopy(module)
    fast = caffe2torch.optimize(module)
    rng = torch.Generator().manual_seed(0)
    inputs = {i.name: torch.rand(i.shape, generator=rng) for i in module.caffe_graph.inputs}
    with torch.inference_mode():
        for _ in range(3):  # None has passed before.
            results = []
            for net in (module, twin, fast):
                torch.manual_seed(0)
                results.append(net(inputs))
            for result in results:
                torch.testing.assert_close(result, results[0])


NETS = {
    "an_input_is_an_output": BLOCK + 'layer { name: "z" type: "Input" top: "z" '
    "input_param { shape { dim: 2 dim: 3 } } }",
    "sources_alone": MEMORY["dummy_data"].replace("scale: 2 shift: 1", ""),
    "three_axes": """
layer { name: "x" type: "Input" top: "x" input_param { shape {
  dim: 2 dim: 2 dim: 5 dim: 4 dim: 3 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {
  num_output: 3 kernel_size: 2 dilation: 2 weight_filler { type: "xavier" } } }""",
    "softmax_of_the_batch": """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "s" type: "Softmax" bottom: "x" top: "y" softmax_param { axis: -4 } }""",
    "an_index_beyond": """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { shift: 5 } }
layer { name: "e" type: "Embed" bottom: "p" top: "e" embed_param { input_dim: 3 num_output: 2
  weight_filler { type: "xavier" } } }""",
}


@pytest.mark.parametrize("name", NETS)
def test_nets_of_every_kind_are_optimised(name: str) -> None:
    module = load(NETS[name])
    fast = caffe2torch.optimize(module)
    value = {"an_index_beyond": -4.0}.get(name)
    for items in (0, 4):
        inputs = {}
        for declared in module.caffe_graph.inputs:
            shape = (items or declared.shape[0], *declared.shape[1:])
            inputs[declared.name] = torch.full(shape, value) if value else image(*shape)
        with torch.inference_mode():
            torch.testing.assert_close(fast(inputs), module(inputs))


def test_an_image_of_moved_axes_is_convolved_rightly() -> None:
    module = load("""
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 9 dim: 1 dim: 1 } } }
layer { name: "p" type: "Permute" bottom: "x" top: "p"
  permute_param { order: 0 order: 3 order: 1 order: 2 } }
layer { name: "c" type: "Convolution" bottom: "p" top: "y" convolution_param { num_output: 3
  kernel_size: 3 stride_h: 1 stride_w: 4 pad: 1 weight_filler { type: "xavier" } } }""")
    x = image(2, 9, 1, 1)
    with torch.inference_mode():
        exact = copy.deepcopy(module).double()(x.double())
        for net in (module, caffe2torch.optimize(module)):
            assert_close(net(x), exact, TOLERANCE)


FAULTS = (
    *("crash_fuse_no_bottom", "crash_fuse_parameter", "crash_optimize_embed_computed_index"),
    *("crash_optimize_softmax_axis0", "segfault_optimize_dilated_1x1"),
    "wrong_optimize_1channel_conv",
)


@pytest.mark.parametrize("name", FAULTS)
def test_recorded_faults(name: str) -> None:
    folder = genuine("SHARED", "faults", name)
    weights = folder / "net.caffemodel"
    loaded = caffe2torch.load(weights if weights.exists() else None, folder / "net.prototxt")
    module = caffe2torch.optimize(loaded)
    with np.load(folder / "io.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    with torch.inference_mode():
        shown = module.blobs({k[3:]: v for k, v in arrays.items() if k.startswith("in/")})
    for blob, value in arrays.items():
        if blob.startswith("out/"):
            assert_close(shown[blob[4:]], value, TOLERANCE, absolute=1e-6, what=blob)


def test_a_dropout_in_place_of_a_shared_blob_may_go() -> None:
    module = load(
        'input: "x" input_shape { dim: 2 dim: 3 } '
        'layer { name: "s" type: "Split" bottom: "x" top: "y" } '
        'layer { name: "d" type: "Dropout" bottom: "y" top: "y" }'
    )
    x = torch.randn(2, 3)
    torch.testing.assert_close(caffe2torch.optimize(module)(x), module(x))


def test_values_near_the_largest_are_no_fault() -> None:
    """The last window lies beyond the image, so that its maximum is -FLT_MAX, as in Caffe."""
    net = """
        layer { name: "x" type: "Input" top: "x" input_param {
          shape { dim: 1 dim: 3 dim: 3 dim: 16 } } }
        layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param {
          kernel_size: 1 stride: 2 } }
        layer { name: "c" type: "Convolution" bottom: "p" top: "c" convolution_param {
          num_output: 16 kernel_size: 2 pad: 1 weight_filler { type: "xavier" } } }
        layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param {
          num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
    """
    module = load(net)
    fast = caffe2torch.optimize(module)
    assert torch.isfinite(fast(image(1, 3, 3, 15))).all()
