"""Random nets over the whole catalogue of layers, and the optimised module beside the plain one."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path
from random import Random
from typing import Any

MOST_LAYERS = 7
MOST_VALUES = 1 << 20
"""Of all blobs of a net together."""
RELATIVE, FLOOR = 1e-4, 1e-6
"""Of a blob's peak, and absolute: what the check of ``optimize`` allows."""
NUDGE, NUDGED_RUNS, ROUNDING = 2.0**-20, 4, 40.0
"""The modules may be so many times as far apart as the plain one moves with its nudged input."""
LARGEST = 1e30
"""Blobs beyond are not judged: their sums overflow in one order and not in another."""

Arrays = Mapping[str, Any]
HALVES = ("0.1", "0.5", "1", "2", "-1", "-0.5", "0")
FILLER = 'weight_filler { type: "xavier" }'


def random_net(rng: Random, usual: float = 0.6) -> bytes:
    """A prototxt of a few layers that the package reads; without weights.

    ``usual`` is the part of its layers that are of the types of most nets.
    """
    from caffe2torch.io.prototxt import parse_prototxt

    text, blobs = _inputs(rng)
    net = parse_prototxt(text)
    for number in range(rng.randint(1, MOST_LAYERS)):
        for _ in range(3):  # Most parameters fit no bottom.
            layer, tops = _layer(rng, number, blobs, usual)
            if larger := _with_layer(net, layer):
                net, text = larger, text + layer
                blobs = [*blobs, *tops]
                break
    return text.encode()


def _inputs(rng: Random) -> tuple[str, list[str]]:
    rank = rng.choice((4,) * 10 + (1, 2, 2, 3, 5))
    # Of a large volume there are too many columns.
    sizes = (1, 2, 3, 4, 5) if rank > 4 else (1, 2, 3, 4, 5, 7, 8, 11, 16)
    shape = [rng.choice((1, 2, 3)), *(rng.choice(sizes) for _ in range(rank - 1))]
    count = rng.choice((1, 1, 1, 2, 3))
    text, names = "", [f"x{i}" for i in range(count)]
    for name in names:
        other = shape[: rng.randint(1, len(shape))] if rng.random() < 0.4 else shape
        dims = " ".join(f"dim: {size}" for size in other)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ '
        text += f"shape {{ {dims} }} }} }}\n"
    return text, names


def _layer(rng: Random, number: int, blobs: list[str], usual: float) -> tuple[str, list[str]]:
    kind = rng.choice(USUAL) if rng.random() < usual else rng.choice(sorted(_catalogue()))
    cls, fields = _catalogue()[kind]
    fewest, most = cls.bottoms
    count = rng.randint(fewest, min(most if most is not None else 3, max(fewest, 3)))
    bottoms = [rng.choice(blobs[-3:] if rng.random() < 0.8 else blobs) for _ in range(count)]
    fewest, most = cls.tops
    many = count if cls.same_bottoms_and_tops else rng.randint(fewest, min(most or 3, 3))
    tops = [f"y{number}_{i}" for i in range(many)]
    if bottoms and tops and cls.tops == (1, 1) and rng.random() < 0.25:
        tops = bottoms[:1]
    lines = [f'name: "l{number}" type: "{kind}"']
    lines += [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops]
    lines.append(FIXED[kind](rng) if kind in FIXED else _random_fields(fields, rng))
    if rng.random() < 0.03:
        lines.append(f"phase: {rng.choice(('TRAIN', 'TEST'))}")
    return f"layer {{ {' '.join(lines)} }}\n", tops


def _with_layer(net: Any, layer: str) -> Any:
    """``net`` with the layer; None if the package refuses it."""
    from caffe2torch.errors import Caffe2TorchError
    from caffe2torch.io.prototxt import parse_prototxt
    from caffe2torch.passes.draft import BlobSource, Options
    from caffe2torch.pipeline import build_graph

    larger = copy.deepcopy(net)
    try:
        larger.layer.extend(parse_prototxt(layer).layer)
        graph = build_graph(larger, BlobSource(), options=Options(allow_missing=True))
    except Caffe2TorchError:
        return None
    except Exception:  # A fault of the package, which the run of the net will report.
        return larger
    return larger if sum(map(prod, graph.shapes.values())) < MOST_VALUES else None


def _convolution(rng: Random) -> str:
    kernel = rng.choice((1, 1, 2, 3, 3, 3, 5, 7))
    fields = [f"num_output: {rng.choice((1, 2, 3, 4, 8, 16, 17, 32))} {FILLER}"]
    if rng.random() < 0.3:
        other = rng.choice((1, 2, 3, 5))
        fields.append(f"kernel_h: {kernel} kernel_w: {other}")
        fields.append(f"stride_h: {rng.randint(1, 4)} stride_w: {rng.randint(1, 4)}")
        fields.append(f"pad_h: {rng.randint(0, 4)} pad_w: {rng.randint(0, 4)}")
        dilations = f"dilation: {rng.randint(1, 3)} dilation: {rng.randint(1, 3)}"
        fields.append(dilations if rng.random() < 0.5 else "")
    else:
        fields.append(f"kernel_size: {kernel}")
        fields.append(f"stride: {rng.randint(1, 4)}" if rng.random() < 0.4 else "")
        fields.append(f"pad: {rng.randint(0, 4)}" if rng.random() < 0.5 else "")
        fields.append(f"dilation: {rng.randint(1, 4)}" if rng.random() < 0.3 else "")
    fields.append(f"group: {rng.choice((2, 3, 4, 8, 16))}" if rng.random() < 0.25 else "")
    fields.append("bias_term: false" if rng.random() < 0.3 else "")
    fields.append(f"axis: {rng.choice((0, 2, -1, -2))}" if rng.random() < 0.05 else "")
    return f"convolution_param {{ {' '.join(filter(None, fields))} }}"


def _pooling(rng: Random) -> str:
    pool = f"pool: {rng.choice(('MAX', 'MAX', 'AVE', 'STOCHASTIC'))}"
    if rng.random() < 0.2:
        return f"pooling_param {{ {pool} global_pooling: true }}"
    pad = f"pad: {rng.randint(0, 2)}" if rng.random() < 0.3 else ""
    kernel, stride = rng.randint(1, 4), rng.randint(1, 3)
    return f"pooling_param {{ {pool} kernel_size: {kernel} stride: {stride} {pad} }}"


def _inner_product(rng: Random) -> str:
    axis = f"axis: {rng.choice((0, 1, 2, -1))}" if rng.random() < 0.2 else ""
    transpose = "transpose: true" if rng.random() < 0.2 else ""
    return (
        f"inner_product_param {{ num_output: {rng.choice((1, 3, 8, 17))} {axis} {transpose} "
        f"{FILLER} }}"
    )


def _slice(rng: Random) -> str:
    axis = rng.choice((0, 1, 1, 1, 2, -1))
    return f"slice_param {{ axis: {axis} }}"


def _softmax(rng: Random) -> str:
    return f"softmax_param {{ axis: {rng.choice((0, 1, 1, 1, 2, -1))} }}"


def _permute(rng: Random) -> str:
    order = rng.sample(range(4), rng.randint(1, 4))
    return "permute_param { " + " ".join(f"order: {axis}" for axis in order) + " }"


def _source(field: str) -> Any:
    def fields(rng: Random) -> str:
        dims = " ".join(f"dim: {rng.choice((1, 2, 3, 5))}" for _ in range(rng.choice((1, 2, 4))))
        return f"{field} {{ shape {{ {dims} }} }}"

    return fields


def _recurrent(rng: Random) -> str:
    hidden = "expose_hidden: true" if rng.random() < 0.3 else ""
    return f"recurrent_param {{ num_output: {rng.randint(1, 5)} {hidden} {FILLER} }}"


def _normalized(rng: Random) -> str:
    given = f"use_global_stats: {rng.choice(('true', 'false'))}" if rng.random() < 0.3 else ""
    return f"batch_norm_param {{ {given} }}"


def _scaled(rng: Random) -> str:
    axis = f"axis: {rng.choice((0, 1, 2, -1))}" if rng.random() < 0.2 else ""
    bias = "bias_term: true" if rng.random() < 0.5 else ""
    return f"scale_param {{ {axis} {bias} }}"


FIXED: dict[str, Any] = {
    **dict.fromkeys(
        ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution"),
        _convolution,
    ),
    "Pooling": _pooling,
    "InnerProduct": _inner_product,
    "Slice": _slice,
    "Softmax": _softmax,
    "Permute": _permute,
    "DummyData": _source("dummy_data_param"),
    "Parameter": _source("parameter_param"),
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "BatchNorm": _normalized,
    "Scale": _scaled,
}
"""Parameters of types of which random ones would seldom be sound, or seldom interesting."""
USUAL = (
    *("Convolution",) * 8,
    *("ReLU",) * 4,
    *("Pooling", "BatchNorm", "Scale", "Concat", "Eltwise", "Dropout") * 2,
    *("InnerProduct", "Deconvolution", "DepthwiseConvolution", "Softmax", "Permute", "Bias"),
    *("PReLU", "Flatten", "Slice", "Split", "LRN"),
)


@cache
def _catalogue() -> dict[str, tuple[Any, list[tuple[str, Any]]]]:
    """Class, and fields with their message's name, of each type that computes."""
    from caffe2torch.io.schema import message_class
    from caffe2torch.layers import Role, all_layers

    layer = message_class("LayerParameter")
    known = {
        f.name.removesuffix("_param").replace("_", ""): f
        for f in layer.DESCRIPTOR.fields
        if f.name.endswith("_param") and f.message_type is not None
    }
    found: dict[str, tuple[Any, list[tuple[str, Any]]]] = {}
    for kind, cls in all_layers().items():
        if cls.role is not Role.COMPUTE or " " in kind:
            continue
        fields: list[tuple[str, Any]] = []
        if kind.lower() in known:
            own = known[kind.lower()]
            fields += [(own.name, field) for field in own.message_type.fields]
        if cls.parameters is not None:
            declared = cls.parameters.of(layer(type=kind)).DESCRIPTOR
            fields += [(cls.parameters.fields[0], field) for field in declared.fields]
        found[kind] = cls, fields
    return found


def _random_fields(fields: list[tuple[str, Any]], rng: Random) -> str:
    messages: dict[str, list[str]] = {}
    for parent, field in rng.sample(fields, min(len(fields), rng.choice((0, 1, 2, 2, 3, 4)))):
        if field.message_type is None:
            value = _value(field, rng)
            messages.setdefault(parent, []).append(f"{field.name}: {value}")
    return " ".join(f"{name} {{ {' '.join(values)} }}" for name, values in messages.items())


def _value(field: Any, rng: Random) -> str:
    if field.enum_type is not None:
        return str(rng.choice(field.enum_type.values).name)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return rng.choice(("true", "false"))
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(HALVES)
    if field.cpp_type == field.CPPTYPE_STRING:
        return '"x"'
    return str(rng.choice((0, 1, 1, 2, 2, 3, 4)))


def check_optimized(path: Path, extra: Any, deep: bool) -> None:
    """Run the net at ``path`` and its optimised form on inputs of several sizes and layouts.

    Raises AssertionError where they differ, or where ``optimize`` refuses what the plain
    module runs.
    """
    import torch
    from wilding.weights import with_random_weights

    import caffe2torch
    from caffe2torch.errors import ParityError
    from caffe2torch.inference import optimize
    from caffe2torch.lower.to_torch import to_torch

    graph = with_random_weights(caffe2torch.read(None, path, allow_missing=True))
    if sum(prod(shape) for shape in graph.shapes.values()) >= MOST_VALUES:
        return
    plain = to_torch(graph)
    try:
        fast: Any = optimize(plain)
    except ParityError as error:
        raise AssertionError(f"refused: {error}") from error
    rng = Random(zlib.crc32(path.read_bytes()))
    with torch.inference_mode() if deep else torch.no_grad():
        for number, inputs in enumerate(_feeds(graph, rng)):
            _compare(graph, plain, fast, inputs, is_first=number == 0)


def _feeds(graph: Any, rng: Random) -> Iterator[dict[str, Any]]:
    """Inputs of the declared sizes, of others, laid out otherwise, and with NaN."""
    import torch

    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    items = rng.choice((0, 1, 3, 4))
    area = [rng.choice((1, 2, 3, 5, 8, 13)) for _ in range(3)]
    for batch, spatial in ((None, None), (items, None), (None, area), (items, area)):
        feed = {}
        for declared in graph.inputs:
            shape = list(declared.shape)
            if batch is not None and shape:
                shape[0] = batch
            if spatial is not None and len(shape) > 2:
                shape[2:] = spatial[: len(shape) - 2]
            if declared.name in graph.index_inputs:
                x = torch.randint(0, 2, shape, generator=generator).float()
            else:
                x = torch.randn(shape, generator=generator)
                if x.numel() and rng.random() < 0.05:
                    x.view(-1)[rng.randrange(x.numel())] = rng.choice((float("nan"), float("inf")))
            if len(shape) == 4 and rng.random() < 0.3:
                x = x.permute(0, 2, 3, 1).clone().permute(0, 3, 1, 2)
            feed[declared.name] = x
        yield feed


def _compare(graph: Any, plain: Any, fast: Any, inputs: Arrays, is_first: bool) -> None:
    import torch

    from caffe2torch.compare import may_overflow

    # oneDNN is wrong on channels-last in the plain module too, which leaves layouts to torch.
    straight = {name: x.flatten().view(x.shape) for name, x in inputs.items()}
    try:
        expected = _run(plain, straight)
    except Exception as error:
        try:
            _run(fast, inputs, outputs=True)
        except type(error):
            return
        except Exception as other:
            raise AssertionError(f"plain: {error!r}, optimised: {other!r}") from other
        return
    if any(may_overflow(tensor.numpy()) for tensor in expected.values()):
        return
    actuals = _run(fast, inputs) if is_first else {}
    actuals |= _run(fast, inputs, outputs=True)
    varying = {v for node in graph.nodes if node.layer.free_axes for v in node.outputs}
    moved: list[Arrays] = []
    for blob, actual in actuals.items():
        if blob not in expected:  # A Dropout in place had changed it, and is gone.
            continue
        if graph.blobs[blob] in varying or _is_close(expected[blob], actual, 0):
            continue
        if not moved:
            noise = torch.Generator().manual_seed(0)
            for _ in range(NUDGED_RUNS):
                nudged = {name: _nudged(x, noise) for name, x in straight.items()}
                # What the inputs do not reach (a softmax over one item) moves with the weights.
                shaken = copy.deepcopy(plain)
                for array in shaken.parameters():
                    array.data = _nudged(array.data, noise)
                moved.append(_run(shaken, nudged))
        if any(other[blob].shape != expected[blob].shape for other in moved):
            continue
        away = max(_distance(expected[blob], other[blob]) for other in moved)
        if not _is_close(expected[blob], actual, ROUNDING * away):
            shapes = {name: (tuple(x.shape), x.stride()) for name, x in inputs.items()}
            worst = _distance(expected[blob], actual)
            raise AssertionError(f"{blob} differs by {worst:.3g}, moves by {away:.3g}, on {shapes}")


def _nudged(array: Any, noise: Any) -> Any:
    """A tensor moved by some roundings of float32."""
    import torch

    return array * (1 + NUDGE * torch.randn(array.shape, generator=noise))


def _run(module: Any, inputs: Arrays, outputs: bool = False) -> dict[str, Any]:
    """Blobs, or outputs, of a first pass, which draws the same random numbers each time."""
    import torch

    from caffe2torch.inference import is_stateful

    net = copy.deepcopy(module) if is_stateful(module.caffe_graph) else module
    torch.default_generator.manual_seed(0)  # manual_seed takes milliseconds.
    result = net(inputs) if outputs else net.blobs(inputs)
    return {net.output_names[0]: result} if isinstance(result, torch.Tensor) else dict(result)


def _is_close(expected: Any, actual: Any, allowed: float) -> bool:
    import torch

    if expected.shape != actual.shape:
        return False
    sizes = expected.abs()
    peak = float(sizes[sizes < LARGEST].max()) if (sizes < LARGEST).any() else 0.0
    if bool((sizes >= LARGEST).any()):  # Infinite or nearly so: NaN must be where it is.
        return torch.equal(expected.isnan(), actual.isnan())
    return torch.equal(expected.isnan(), actual.isnan()) and _distance(expected, actual) <= max(
        RELATIVE * peak + FLOOR, allowed
    )


def _distance(expected: Any, actual: Any) -> float:
    difference = (expected - actual).abs()
    difference = difference[~difference.isnan()]
    return float(difference.max()) if difference.numel() else 0.0
