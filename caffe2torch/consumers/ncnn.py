"""ncnn, Tencent's engine for phones, by its converter pnnx."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from caffe2torch.consumers import Consumer, Doubt, installed, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray, Shape

NO_LAYER = "pnnx makes no layer of ncnn's of it"
UNREAD = (
    "And ArgMax Cast Equal Gather GatherElements Greater GreaterOrEqual Less LessOrEqual "
    "Mod NonMaxSuppression NonZero Not Or Pad ReduceMax ReduceProd ScatterElements ScatterND "
    "Shape Squeeze Tile TopK Where"
)
"""Operators of which no recorded net was right."""
KEEPS_SIGN = ("Add", "AveragePool", "Mul", "Reshape")
"""Operators that make nothing negative of what is not."""


@register_consumer("ncnn")
class NCNN(Consumer):
    """pnnx makes net.ncnn.param and net.ncnn.bin of the file, whose sizes are fixed.

    Of padding it reads that of convolutions and poolings, so that these are padded in themselves;
    a Tile is a Concat. Most losses, comparisons and detections have no layer in ncnn; nets for
    images mostly have.
    """

    title = "ncnn"
    packages = ("ncnn==1.0.20261020", "pnnx==20261020")
    form: ClassVar[Mapping[str, Any]] = {"static": True}
    unread: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(UNREAD.split(), NO_LAYER),
    }
    source = "what pnnx and ncnn of October 2026 were measured to read"
    note = "ncnn computes in float16 unless opt.use_fp16_* are false; pnnx stores it unless fp16=0."
    load = "pnnx net.onnx fp16=0"
    must_run = True

    def version(self) -> str | None:
        return installed("ncnn") if installed("pnnx") else None

    def rewrite(self, model: onnx.ModelProto) -> None:
        from caffe2torch.consumers._padding import pad_in_operators, round_pooling
        from caffe2torch.consumers._rewriting import replace_nodes

        pad_in_operators(model)
        round_pooling(model)
        replace_nodes(model, _two_by_two)
        replace_nodes(model, _beside_itself)

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from caffe2torch.consumers._padding import POOLING
        from caffe2torch.consumers._rewriting import attributes_of

        yield from super().doubts(model)
        makers = {name: node for node in model.graph.node for name in node.output}
        constants = {i.name: i for i in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Pow" and not _is_positive(node.input[0], makers, constants):
                yield Doubt(node, "ncnn takes the logarithm of its base, which may be negative")
            pads = attributes_of(node).get("pads", [])
            first, last = pads[: len(pads) // 2], pads[len(pads) // 2 :]
            if node.op_type in POOLING and first != last:
                yield Doubt(node, "pnnx takes pads that differ for a size that is rounded up")

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import ncnn

        with TemporaryDirectory() as folder:
            script = _converted(model, Path(folder))
            net = ncnn.Net()
            net.opt.num_threads = 1
            for name in ("packed", "storage", "arithmetic"):
                setattr(net.opt, f"use_fp16_{name}", False)
            for load, kind in ((net.load_param, "param"), (net.load_model, "bin")):
                if load(str(Path(folder, f"net.ncnn.{kind}"))):
                    raise ValueError(f"it does not load what pnnx made (.{kind})")
            run = net.create_extractor()
            for i, array in enumerate(inputs.values()):
                run.input(f"in{i}", _given(ncnn, script, i, array))
            found = [_found(run.extract(f"out{i}"), script, i) for i in range(len(outputs))]
        return {
            name: value.reshape(shape) if value.size == 1 else value
            for value, (name, shape) in zip(found, outputs.items(), strict=True)
        }


def _converted(model: Path, folder: Path) -> str:
    """What pnnx makes of the file, in ``folder``; its example script, which says axes."""
    import shutil
    from importlib.util import find_spec

    package = find_spec("pnnx")
    assert package is not None
    assert package.origin is not None
    shutil.copy(model, folder / "net.onnx")
    command = [str(Path(package.origin).parent / "pnnx"), "net.onnx", "fp16=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    param = folder / "net.ncnn.param"
    if done.returncode or not param.exists():
        raise ValueError(f"pnnx ends with code {done.returncode}")
    unknown = set(re.findall(r"(?m)^([A-Za-z]\w*\.\w+)", param.read_text()))
    if unknown:
        raise ValueError(f"pnnx makes no layer of {', '.join(sorted(unknown))}")
    return (folder / "net_ncnn.py").read_text()


def _axis(call: str, text: str) -> int | None:
    """The axis of a call such as ``squeeze(0)`` or ``batch_index=0`` in the script."""
    found = re.search(rf"{call}[(=](\d+)", text)
    return None if found is None else int(found[1])


def _given(ncnn: Any, script: str, number: int, array: FloatArray) -> Any:
    """An input as the script gives it: ncnn has no axis for the batch."""
    import numpy as np

    line = re.search(rf'ex\.input\("in{number}", (.*)', script)
    if line is None:
        raise ValueError("pnnx drops an input")
    gone, batch = _axis(r"\.squeeze", line[1]), _axis("batch_index", line[1])
    value = np.ascontiguousarray(array if gone is None else array.squeeze(gone))
    given = ncnn.Mat(value) if batch is None else ncnn.Mat(value, batch_index=batch)
    return given.clone()


def _found(extracted: Sequence[Any], script: str, number: int) -> Array:
    """An output as the script takes it."""
    import numpy as np

    failed, value = extracted
    line = re.search(rf'ex\.extract\("out{number}"\)\s*out\.append\((.*)', script)
    if failed or line is None:
        raise ValueError("it gives no output")
    gone, batch = _axis(r"\.unsqueeze", line[1]), _axis("batch_index", line[1])
    array = np.array(value.numpy() if batch is None else value.numpy(batch_index=batch))
    return array if gone is None else np.expand_dims(array, gone)


def _two_by_two(node: onnx.NodeProto, writer: Any) -> bool | None:
    """For ``replace_nodes``: Max of more than two as a Max of two after the other.

    Of more than two, ncnn takes the first two.
    """
    if node.op_type != "Max" or len(node.input) < 3:
        return False
    value, *others, last = node.input
    for other in others:
        value = writer.op("Max", value, other)
    writer.op("Max", value, last, output=node.output[0])
    return None


def _beside_itself(node: onnx.NodeProto, writer: Any) -> bool | None:
    """For ``replace_nodes``: Tile along one axis as Concat of the copies."""
    if node.op_type != "Tile":
        return False
    repeats = writer.value_of(node.input[1])
    if sum(repeats > 1) > 1:
        return False
    copies, axis = [node.input[0]] * int(repeats.max()), int(repeats.argmax())
    writer.op("Concat", *copies, output=node.output[0], axis=axis)
    return None


def _is_positive(name: str, makers: Mapping[str, Any], constants: Mapping[str, Any]) -> bool:
    """Whether an array has no negative values whatever the inputs are, as LRN's sums have."""
    from onnx import numpy_helper

    if name in constants:
        return bool((numpy_helper.to_array(constants[name]) >= 0).all())
    node = makers.get(name)
    if node is None or node.op_type not in KEEPS_SIGN:
        return False
    if node.op_type == "Mul" and node.input[0] == node.input[1]:
        return True
    arrays = node.input if node.op_type in ("Add", "Mul") else node.input[:1]
    return all(_is_positive(array, makers, constants) for array in arrays)
