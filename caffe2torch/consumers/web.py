"""ONNX Runtime in a browser (onnxruntime-web), which node runs too."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Container, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from caffe2torch.consumers import Consumer, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.consumers._rewriting import Writer
    from caffe2torch.graph import Array, FloatArray, Shape

PROGRAM = """
import fs from 'fs';
import * as runtime from 'onnxruntime-web';
const job = JSON.parse(fs.readFileSync('job.json'));
runtime.env.wasm.numThreads = 1;
const net = await runtime.InferenceSession.create(fs.readFileSync(job.model));
const feed = {};
job.inputs.forEach(([name, shape], i) => {
  const bytes = fs.readFileSync(`${i}.in`);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  feed[name] = new runtime.Tensor('float32', values, shape);
});
const found = await net.run(feed);
const shapes = job.outputs.map((name, i) => {
  const {data, dims} = found[name];
  fs.writeFileSync(`${i}.out`, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return dims;
});
fs.writeFileSync('shapes.json', JSON.stringify(shapes));
"""
"""Runs a net once, as a browser would: in WebAssembly, on one thread."""
FOLDER = Path(sys.prefix, "node_modules")
"""Where its package is looked for, beside the Python environment's own."""


@register_consumer("web")
class Web(Consumer):
    """It takes open batches, and all that nets are written with."""

    title = "onnxruntime-web"
    node_packages = ("onnxruntime-web@1.30.0",)
    source = (
        "what onnxruntime-web 1.30 was measured to read, which is all that nets are written with"
    )
    note = "Its WebAssembly computes in float32; its WebGPU was not measured."
    load = 'await ort.InferenceSession.create("net.onnx")'

    def version(self) -> str | None:
        package = FOLDER / "onnxruntime-web" / "package.json"
        if shutil.which("node") is None or not package.exists():
            return None
        return str(json.loads(package.read_text())["version"])

    def rewrite(self, model: onnx.ModelProto) -> None:
        """Keep a Pad out of the pooling after it, by a Reshape to the same sizes.

        ONNX Runtime 1.30 takes zeros into the pads of a pooling, where they are no values.
        Before: ``MaxPool(Pad(x))``. After: ``MaxPool(Reshape(Pad(x), [0, 0, 0, 0]))``.
        """
        from caffe2torch.consumers._rewriting import replace_nodes

        padded = {node.output[0] for node in model.graph.node if node.op_type == "Pad"}
        replace_nodes(model, lambda node, writer: _pool_apart(node, padded, writer))

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import numpy as np

        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "node_modules").symlink_to(FOLDER)
            (folder / "run.mjs").write_text(PROGRAM)
            for i, array in enumerate(inputs.values()):
                (folder / f"{i}.in").write_bytes(np.ascontiguousarray(array).tobytes())
            shapes = [[name, array.shape] for name, array in inputs.items()]
            job = {"model": str(model), "inputs": shapes, "outputs": list(outputs)}
            (folder / "job.json").write_text(json.dumps(job))
            done = subprocess.run(
                ["node", "run.mjs"], cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ValueError(done.stderr[-400:])
            found = json.loads((folder / "shapes.json").read_text())
            return {
                name: np.fromfile(folder / f"{i}.out", np.float32).reshape(shape)
                for i, (name, shape) in enumerate(zip(outputs, found, strict=True))
            }


def _pool_apart(node: onnx.NodeProto, padded: Container[str], writer: Writer) -> bool | None:
    """For ``replace_nodes``: a pooling of what is padded, with a Reshape between."""
    import numpy as np

    from caffe2torch.consumers._padding import POOLING
    from caffe2torch.consumers._rewriting import attributes_of

    if node.op_type not in POOLING or node.input[0] not in padded:
        return False
    axes = 2 + len(attributes_of(node)["kernel_shape"])
    same = writer.const(np.zeros(axes, np.int64), f"{node.output[0]}/same")
    node.input[0] = writer.op("Reshape", node.input[0], same)
    writer.nodes.append(node)
    return None
