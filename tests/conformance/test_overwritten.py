"""Gradients of layers whose data later layers overwrite, against Caffe's code on Caffe's memory."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caffe_memory import (
    SIGMOID,
    TANH,
    Array,
    Blob,
    Kind,
    bnll,
    clip,
    elu,
    exp,
    log,
    lrn,
    lrn_within,
    mvn,
    power,
    prelu,
    relu,
    scale,
    softmax,
    swish,
)

import caffe2torch
import caffe2torch.pycaffe as caffe
from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.lower.to_torch import CaffeModule, to_torch

Chain = tuple[tuple[Kind, bool], ...]
"""Layers one after another, each in place or not."""

SHAPE = (2, 5, 3, 4)
ROUNDED = 1e-11
"""Relative to the peak, in float64: sums of up to 60 terms, and powers."""
IN_FLOAT32 = 3e-5
"""Relative to the peak, in pycaffe's float32: up to three layers, each with a quotient."""

FIRST = [
    SIGMOID, TANH, relu(0), relu(0.125), relu(-0.3125), elu(1.25), elu(-0.5), exp(2.0, 0.5),
    log(3.0, 0.375, 3.0), power(1, 0.5, 0.25), power(2, 1.5, 0.5), power(0.5, 0.25, 2.5),
    power(3, 1, 0), power(1.5, 0.25, 2.5), power(0, 1, 0), bnll(), clip(-0.375, 0.875),
    clip(0.5, -0.5), swish(1.25), softmax(), mvn(True, False), mvn(True, True), mvn(False, True),
    lrn(3, 0.75, 0.75, 1.5), lrn_within(3, 0.75, 0.75), scale(-1.5), prelu(-0.375),
]  # fmt: skip
"""Their numbers are the same in float32, in which a net has them."""
THEN = [relu(0), scale(-1.5), power(2, 0.5, 1), SIGMOID, prelu(-0.375), softmax()]
"""What follows in place."""


def chains() -> list[Chain]:
    """One layer and what follows it in place, that layer in place or not."""
    found: list[Chain] = []
    for kind, in_place in itertools.product(FIRST, (False, True)):
        if in_place and '"LRN"' in kind.text and "WITHIN" not in kind.text:
            continue  # Across channels, Caffe computes something else in place: it is refused.
        found.append(((kind, in_place),))
        found += [((kind, in_place), (other, True)) for other in THEN]
    found.append(((TANH, False), (scale(-1.5), True), (relu(0), True)))
    found.append(((relu(0), True), (scale(-1.5), True), (TANH, True)))
    return found


def text_of(chain: Chain, before: str = "") -> str:
    """A net: the input, a Split-free first layer (``scale`` 1), and the chain."""
    sizes = " ".join(f"dim: {size}" for size in SHAPE)
    text = f"""force_backward: true
        layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {sizes} }} }} }}
        layer {{ name: "a" {scale(1).text} bottom: "x" top: "b0" }}"""
    bottom = "b0"
    for number, (kind, in_place) in enumerate(chain, 1):
        top = bottom if in_place else f"b{number}"
        text += f'layer {{ name: "l{number}" {kind.text} bottom: "{bottom}" top: "{top}" }}\n'
        bottom = top
    return text


def caffes(chain: Chain, x: Array, diff: Array) -> tuple[Array, Array]:
    """The output and the gradient of the input by Caffe's code."""
    blob = Blob(x.copy())
    passed = []
    for kind, in_place in chain:
        y, kept = kind.forward(blob.data)
        if in_place:
            top = blob
            top.data[...] = y
        else:
            top = Blob(y.copy())
        passed.append((kind, blob, top, kept))
        blob = top
    output = blob.data.copy()
    blob.diff[...] = diff
    with np.errstate(all="ignore"):
        for kind, bottom, top, kept in reversed(passed):
            kind.backward(bottom, top, kept)
    return output, passed[0][1].diff


def differs(actual: Any, expected: Array, tolerance: float) -> bool:
    peak = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    return not np.allclose(actual, expected, rtol=0, atol=tolerance * peak, equal_nan=True)


def chain_name(chain: Chain) -> str:
    return " -> ".join(f"{kind.text}{' in place' * in_place}" for kind, in_place in chain)


@pytest.fixture(scope="module")
def arrays() -> tuple[Array, Array]:
    rng = np.random.default_rng(11)
    return rng.normal(0, 1.2, SHAPE), rng.normal(0, 1, SHAPE)


def test_a_modules_gradients(arrays: tuple[Array, Array]) -> None:
    failed = []
    for chain in chains():
        output, expected = caffes(chain, *arrays)
        module = module_of(text_of(chain))
        x = torch.tensor(arrays[0], requires_grad=True)
        y = module(x)
        y.backward(torch.tensor(arrays[1]))
        if differs(y.detach(), output, ROUNDED):
            failed.append(f"{chain_name(chain)}: output")
        if differs(x.grad, expected, ROUNDED):
            failed.append(f"{chain_name(chain)}: gradient")
    assert not failed, "\n".join(failed)


def test_pycaffes_gradients(arrays: tuple[Array, Array], tmp_path: Path) -> None:
    failed = []
    for chain in chains():
        (tmp_path / "net.prototxt").write_text(text_of(chain))
        net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
        x = arrays[0].astype(np.float32)
        output, expected = caffes(chain, x.astype(np.float64), arrays[1])
        net.blobs["x"].data[...] = x
        last = list(net.blobs)[-1]
        found = net.forward()[last].copy()
        net.blobs[last].diff[...] = arrays[1]
        net.backward()
        if differs(found, output, IN_FLOAT32):
            failed.append(f"{chain_name(chain)}: output")
        if differs(net.blobs["x"].diff, expected, IN_FLOAT32):
            failed.append(f"{chain_name(chain)}: gradient")
    assert not failed, "\n".join(failed)


def module_of(text: str, phase: str = "TEST") -> CaffeModule:
    """A net in float64, its learned blobs as their fillers make them."""
    return to_torch(caffe2torch.read(prototxt=text.encode(), phase=phase)).double()


def layer_of(kind: Kind, bottom: str, top: str) -> str:
    return f'layer {{ name: "to_{top}" {kind.text} bottom: "{bottom}" top: "{top}" }}'


def loaded(
    layers: str, shape: tuple[int, ...], phase: str = "TEST", inputs: int = 1
) -> CaffeModule:
    """A net in float64 with inputs ``x``, ``x1``, ... of a shape."""
    sizes = " ".join(f"dim: {size}" for size in shape)
    text = "".join(
        f"""layer {{ name: "in{i or ""}" type: "Input" top: "x{i or ""}"
              input_param {{ shape {{ {sizes} }} }} }}"""
        for i in range(inputs)
    )
    return module_of(text + layers, phase)


def test_what_dropout_makes_of_a_layers_top(arrays: tuple[Array, Array]) -> None:
    """TanH's slope is 1 - y^2 of the y that Dropout has doubled, or dropped."""
    module = loaded(
        """layer { name: "t" type: "TanH" bottom: "x" top: "y" }
        layer { name: "d" type: "Dropout" bottom: "y" top: "y" }""",
        SHAPE,
        "TRAIN",
    )
    x = torch.tensor(arrays[0], requires_grad=True)
    y = module(x)
    y.backward(torch.tensor(arrays[1]))
    kept = 2 * (y.detach().numpy() != 0)
    assert 0 < kept.sum() < 2 * kept.size
    expected = arrays[1] * kept * (1 - y.detach().numpy() ** 2)
    np.testing.assert_allclose(x.grad, expected, rtol=ROUNDED)


def test_a_layer_beside_that_reads_what_an_alias_has_changed() -> None:
    """The weights of ip learn from the blob that TanH has overwritten through a Flatten."""
    rng = np.random.default_rng(5)
    x, weight, bias = rng.normal(0, 1, (3, 5)), rng.normal(0, 1, (2, 5)), rng.normal(0, 1, 2)
    module = loaded(
        """layer { name: "s" type: "Power" bottom: "x" top: "b" power_param { scale: 2 } }
        layer { name: "ip" type: "InnerProduct" bottom: "b" top: "i"
          inner_product_param { num_output: 2
            weight_filler { type: "constant" } bias_filler { type: "constant" } } }
        layer { name: "f" type: "Flatten" bottom: "b" top: "f" }
        layer { name: "t" type: "TanH" bottom: "f" top: "f" }""",
        x.shape,
    )
    with torch.no_grad():
        module.ip.weight.copy_(torch.tensor(weight))
        module.ip.bias.copy_(torch.tensor(bias))
    given = torch.tensor(x, requires_grad=True)
    outputs = module(given)
    diffs = {"f": rng.normal(0, 1, (3, 5)), "i": rng.normal(0, 1, (3, 2))}
    torch.autograd.backward(
        [outputs[name] for name in diffs], [torch.tensor(diff) for diff in diffs.values()]
    )
    changed = np.tanh(2 * x)
    np.testing.assert_allclose(outputs["i"].detach(), 2 * x @ weight.T + bias, rtol=ROUNDED)
    np.testing.assert_allclose(module.ip.weight.grad, diffs["i"].T @ changed, rtol=ROUNDED)
    np.testing.assert_allclose(module.ip.bias.grad, diffs["i"].sum(0), rtol=ROUNDED)
    of_b = diffs["i"] @ weight + diffs["f"] * (1 - changed**2)
    np.testing.assert_allclose(given.grad, 2 * of_b, rtol=ROUNDED)


def test_power_divides_by_zero_as_caffe_does() -> None:
    module = loaded(layer_of(power(3, 1, 0), "x", "y"), (4,))
    x = torch.tensor([0.0, 1, -2, 0.5], dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    np.testing.assert_allclose(x.grad, [np.nan, 3, 12, 0.75], rtol=ROUNDED)


RESHAPE = """layer { name: "r" type: "Reshape" bottom: "a" top: "b"
  reshape_param { shape { dim: 0 dim: 6 dim: -1 } } }"""
FLATTEN = 'layer { name: "f" type: "Flatten" bottom: "b" top: "c" }'
TANH_LAYER = 'layer { name: "t" type: "TanH" bottom: "b" top: "b" }'


@pytest.mark.parametrize(
    ("layers", "is_lost"),
    [
        (RESHAPE + FLATTEN, True),
        (RESHAPE + TANH_LAYER + FLATTEN, True),
        ('layer { name: "r" type: "Concat" bottom: "a" top: "b" }' + FLATTEN, True),
        ('layer { name: "r" type: "Slice" bottom: "a" top: "b" }' + FLATTEN, True),
        (RESHAPE + TANH_LAYER, False),
        (RESHAPE + FLATTEN + FLATTEN.replace('"f"', '"f1"').replace('"c"', '"d"'), False),
        ('layer { name: "r" type: "Flatten" bottom: "a" top: "b" }' + FLATTEN, False),
    ],
)
def test_a_flatten_loses_the_gradient_that_a_reshape_shares(
    layers: str, is_lost: bool, tmp_path: Path
) -> None:
    """As genuine Caffe on a CPU: zeros, in the module and in pycaffe, in every pass."""
    text = f"""force_backward: true
      layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 12 }} }} }}
      layer {{ name: "a" {scale(-1.5).text} bottom: "x" top: "a" }} {layers}"""
    x = np.random.default_rng(4).normal(0, 1, (2, 12)).astype(np.float32)
    module = module_of(text)
    given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    outputs = module(given)
    total = sum(y.sum() for y in outputs.values()) if isinstance(outputs, dict) else outputs.sum()
    if total.requires_grad:
        total.backward()
    assert (given.grad is None) == is_lost
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    for _ in range(2):
        net.blobs["x"].data[...] = x
        net.forward()
        for name in net.outputs:
            net.blobs[name].diff[...] = 1
        net.backward()
        assert net.blobs["b"].diff.any()
        assert net.blobs["x"].diff.any() == net.blobs["a"].diff.any() == (not is_lost)


def test_a_product_between_a_reshape_and_a_flatten_still_overwrites_its_gradient() -> None:
    """The other factor's gradient is made from what the lost one leaves."""
    module = loaded(
        layer_of(relu(1), "x", "a")
        + layer_of(relu(1), "x1", "k")
        + """layer { name: "r" type: "Concat" bottom: "a" top: "b" }
        layer { name: "p" type: "Eltwise" bottom: "b" bottom: "k" top: "b"
          eltwise_param { operation: PROD } }"""
        + FLATTEN,
        (2, 3),
        inputs=2,
    )
    rng = np.random.default_rng(6)
    x, k = (torch.tensor(rng.normal(0, 1, (2, 3)), requires_grad=True) for _ in range(2))
    module(x, k).sum().backward()
    assert x.grad is None or not x.grad.any()
    slope = k.detach()
    np.testing.assert_allclose(k.grad, (x * k).detach() * slope * slope, rtol=ROUNDED)


def test_clip_passes_on_the_gradient_at_its_bounds_where_nan_may_come_in() -> None:
    module = loaded(
        """layer { name: "l" type: "Log" bottom: "x" top: "y" }
        layer { name: "c" type: "Clip" bottom: "y" top: "y" clip_param { min: 0 max: 1 } }""",
        (5,),
    )
    x = torch.tensor([-1, 0.5, 1, 2, 4], dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    np.testing.assert_allclose(x.grad, [-1, 2, 1, 0.5, 0.25], rtol=ROUNDED)


@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_the_gradient_of_a_product(stable: bool, in_place: bool) -> None:
    rng = np.random.default_rng(8)
    values, diff = rng.normal(0, 1, (3, 2, 5)), rng.normal(0, 1, (2, 5))
    values[1, 1, 2] = 0
    top, flag = "a" if in_place else "y", str(stable).lower()
    module = loaded(
        layer_of(relu(1), "x", "a")
        + layer_of(relu(1), "x1", "b")
        + layer_of(relu(1), "x2", "c")
        + f"""layer {{ name: "l" type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "{top}"
          eltwise_param {{ operation: PROD stable_prod_grad: {flag} }} }}""",
        (2, 5),
        inputs=3,
    )
    given = [torch.tensor(value, requires_grad=True) for value in values]
    module(*given).backward(torch.tensor(diff))
    blobs = [Blob(value.copy()) for value in values]
    output = Blob(values.prod(0))
    if in_place:
        blobs[0].data[...] = output.data
        output = blobs[0]
    output.diff[...] = diff
    for i, blob in enumerate(blobs):
        if stable:
            first, second = (other.data for j, other in enumerate(blobs) if j != i)
            blob.diff[...] = first
            blob.diff *= second
        else:
            with np.errstate(all="ignore"):
                blob.diff[...] = output.data / blob.data
        blob.diff *= output.diff
    for value, blob in zip(given, blobs, strict=True):
        np.testing.assert_allclose(value.grad, blob.diff, rtol=ROUNDED)
    assert stable or any(np.isnan(blob.diff).any() for blob in blobs)


def test_the_gradient_of_a_forget_gate_takes_cont_in() -> None:
    rng = np.random.default_rng(3)
    cell, gates = rng.normal(0, 1, (1, 3, 2)), rng.normal(0, 1, (1, 3, 8))
    cont = np.array([[0, 1, 0.25]])
    module = module_of(
        """layer { name: "in" type: "Input" top: "c" top: "g" top: "k" input_param {
          shape { dim: 1 dim: 3 dim: 2 } shape { dim: 1 dim: 3 dim: 8 } shape { dim: 1 dim: 3 } } }
        layer { name: "l" type: "LSTMUnit" bottom: "c" bottom: "g" bottom: "k" top: "d"
          top: "h" }"""
    )
    x = torch.tensor(gates, requires_grad=True)
    outputs = module(torch.tensor(cell), x, torch.tensor(cont))
    outputs["d"].sum().backward()
    f = cont[0, :, None] / (1 + np.exp(-gates[0, :, 2:4]))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad[0, :, 2:4], cell[0] * f * (1 - f), rtol=ROUNDED)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        (
            """layer { name: "pool" type: "Pooling" bottom: "x" top: "y" top: "mask"
                 pooling_param { kernel_size: 2 } }
               layer { name: "r" type: "Power" bottom: "mask" top: "mask" power_param { scale: 2 } }
               layer { name: "e" type: "Eltwise" bottom: "y" bottom: "mask" top: "z" }""",
            "pool",
        ),
        (
            """layer { name: "f" type: "Flatten" bottom: "x" top: "f" flatten_param { axis: 2 } }
               layer { name: "k" type: "DummyData" top: "k" dummy_data_param {
                 shape { dim: 2 dim: 5 } } }
               layer { name: "rnn" type: "LSTM" bottom: "f" bottom: "k" top: "h" recurrent_param {
                 num_output: 3 weight_filler { type: "constant" value: 0.1 } } }
               layer { name: "g" type: "Flatten" bottom: "x" top: "g" }
               layer { name: "t" type: "TanH" bottom: "g" top: "g" }""",
            "rnn",
        ),
        (
            """layer { name: "k" type: "DummyData" top: "k" dummy_data_param { shape { dim: 2 } } }
               layer { name: "e" type: "Embed" bottom: "k" top: "h" embed_param {
                 num_output: 3 input_dim: 4 weight_filler { type: "constant" value: 0.1 } } }
               layer { name: "f" type: "Flatten" bottom: "k" top: "f" flatten_param { axis: 0 } }
               layer { name: "p" type: "Power" bottom: "f" top: "f" power_param { shift: 1 } }
               layer { name: "t" type: "TanH" bottom: "x" top: "y" }""",
            "e",
        ),
    ],
)
def test_gradients_that_are_not_known_are_refused_by_name(layers: str, name: str) -> None:
    module = loaded(layers, SHAPE)
    outputs = module(torch.randn(SHAPE, dtype=torch.float64, requires_grad=True))
    total = sum(y.sum() for y in outputs.values()) if isinstance(outputs, dict) else outputs.sum()
    with pytest.raises(UnsupportedLayerError, match=f"layer '{name}'.*overwritten in place"):
        total.backward()  # type: ignore[union-attr]


def test_emitted_source_that_is_to_train_says_what_gradients_it_has(tmp_path: Path) -> None:
    text = text_of(((TANH, False), (scale(-1.5), True))).encode()
    for phase in ("TEST", "TRAIN"):
        (tmp_path / "net.prototxt").write_bytes(text)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            caffe2torch.convert(
                None, tmp_path / "net.py", prototxt=tmp_path / "net.prototxt", phase=phase
            )
        told = [str(w.message) for w in caught if "gradient of the formula for" in str(w.message)]
        assert ["'l1'" in message for message in told] == [True] * (phase == "TRAIN")
