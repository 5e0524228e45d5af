"""Graph -> readable Python source of a torch module that needs nothing but torch."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence

from caffe2torch.graph import Graph
from caffe2torch.io.origin import located
from caffe2torch.lower.batch import batch_of
from caffe2torch.lower.expression import quote
from caffe2torch.lower.python_format import WIDTH, wrap, wrap_parameters
from caffe2torch.lower.python_names import class_name, legible
from caffe2torch.lower.runtime_code import definitions_of
from caffe2torch.lower.source_forward import SourceForward
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.version import __version__

WEIGHTS_SUFFIX = ".weights.pt"
"""What the weights file has in place of the source file's ``.py``."""

IMPORTS = (
    ("math", "import math"),
    ("Callable", "from collections.abc import "),
    ("Sequence", "from collections.abc import "),
    ("Path", "from pathlib import "),
    ("Any", "from typing import "),
    ("torch", "import torch"),
    ("F", "import torch.nn.functional as F"),
    ("Tensor", "from torch import "),
    ("nn", "from torch import "),
)
"""The names that emitted code may use, in the order of the import section."""


def to_source(graph: Graph) -> str:
    """Return a Python file with a module class of ``graph`` and a ``load`` for its weights.

    The state_dict has the graph's keys; ``load`` takes the weights from the artefact beside
    the file (see WEIGHTS_SUFFIX). Names in the net become identifiers or quoted strings,
    never code. The text is as ruff and black format it.

    Raises UnsupportedLayerError for a layer without a source form.
    """
    with located(graph.origin):
        plan = SourceForward(graph, (), ())
        reserved = frozenset(plan.used | plan.own.keys())
        forward = SourceForward(graph, plan.modules.keys, reserved)
    constants, definitions = definitions_of(forward.used)
    name = class_name(graph.name)
    name += "Net" if name in reserved else ""
    sections = [
        "\n".join(constants),
        *definitions,
        *forward.own.values(),
        _class(graph, name, forward),
        _load(graph, name, forward),
        _main(graph, forward.parameters),
    ]
    body = "\n\n\n".join(section for section in sections if section)
    weights = f"WEIGHTS = Path(__file__).with_suffix({quote(WEIGHTS_SUFFIX)})"
    return f"{_docstring(graph)}\n\n{_imports(body)}\n\n{weights}\n\n\n{body}\n"


def _imports(body: str) -> str:
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    lines: dict[str, list[str]] = {}
    for name, statement in IMPORTS:
        if name in used | {"Path"}:
            lines.setdefault(statement, []).append(name)
    texts = [
        statement + ", ".join(names) if statement.endswith("import ") else statement
        for statement, names in lines.items()
    ]
    first = texts.index("import torch")
    return "\n".join([*texts[:first], "", *texts[first:]])


def _docstring(graph: Graph) -> str:
    """What the file is, where it comes from, what goes in and what comes out."""
    batch = batch_of(graph)
    source = graph.source_sha256 or "not recorded"
    lines = [
        f"The Caffe net {legible(graph.name) or 'without a name'} as a PyTorch module.",
        "",
        f"Written by caffe2torch {__version__}; it needs PyTorch alone. The weights lie beside",
        f"this file, under its name with the suffix {WEIGHTS_SUFFIX}.",
        "",
        f"SHA-256 of the Caffe weights: {source}",
        "",
        *_shape_lines("Input", [(i.name, i.shape) for i in graph.inputs], batch),
        *_preprocessing(graph.preprocessing),
        *_shape_lines("Output", [(b, graph.shapes[graph.blobs[b]]) for b in graph.outputs], batch),
    ]
    return "\n".join(['"""' + lines[0], *lines[1:], '"""'])


def _shape_lines(
    title: str, blobs: Sequence[tuple[str, Sequence[int]]], batch: int | None
) -> list[str]:
    lines = []
    for name, shape in blobs:
        sizes = [str(size) for size in shape]
        if batch is not None and shape and shape[0] == batch:
            sizes[0] = "N"
        lines.append(f"{title}: {legible(name)} ({', '.join(sizes)})")
    return lines


def _preprocessing(record: Preprocessing | None) -> list[str]:
    if record is None:
        text = "The net does not record how its input is made of an image. By Caffe's custom "
        text += "channels are in the order BGR, from 0 to 255, less a mean."
    else:
        text = f"Pixels from 0 to 255, channels in the order {legible(record.channel_order)}"
        text += f", less the mean {_numbers(record.mean)}" if record.mean else ""
        text += f", less the mean image {legible(record.mean_file)}" if record.mean_file else ""
        text += f", times {record.scale:g}" if record.scale != 1 else ""
        text += f", over {_numbers(record.std)}" if record.std else ""
        text += "."
    return textwrap.wrap(text, WIDTH - 4, initial_indent=" " * 4, subsequent_indent=" " * 4)


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def _class(graph: Graph, name: str, forward: SourceForward) -> str:
    type_, what, returned = "Tensor", "blob", "".join(map(forward.output, graph.outputs))
    if len(graph.outputs) != 1:
        type_, what = "dict[str, Tensor]", "blobs by Caffe's names"
        items = [f"{quote(blob)}: {forward.output(blob)}" for blob in graph.outputs]
        returned = f"{{{', '.join(items)}}}"
    parameters = ["self", *(f"{p}: Tensor" for p in forward.parameters)]
    lines = [
        f"class {name}(nn.Module):",
        f'    """{legible(graph.name) or "The net"}, as Caffe computes it."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(wrap(line, 8) for line in forward.modules.statements()),
        "",
        wrap_parameters("def forward(", parameters, f") -> {type_}:", 4),
        f'        """Return the output {what}."""',
        *(wrap(line, 8) for line in [*forward.statements, f"return {returned}"]),
        *_train(graph, name, forward),
    ]
    return "\n".join(lines)


def _train(graph: Graph, name: str, forward: SourceForward) -> list[str]:
    """The method that keeps the mode of layers with a phase of their own, if there are any."""
    modules = forward.modules
    own = {key: phase for key, phase in graph.own_phases.items() if key in modules.keys}
    if not own:
        return []
    modes = [f"{modules.expression(k)}.training = {p == 'TRAIN'}" for k, p in own.items()]
    return [
        "",
        f'    def train(self, mode: bool = True) -> "{name}":',
        '        """Set the mode; layers that state a phase of their own keep theirs."""',
        "        super().train(mode)",
        *(wrap(mode, 8) for mode in modes),
        "        return self",
    ]


def _load(graph: Graph, name: str, forward: SourceForward) -> str:
    aliases = forward.modules.aliases().items()
    statements = [
        'state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]',
        *(f"state[{quote(key)}] = state[{quote(source)}]" for key, source in aliases),
        f"net = {name}()",
        "net.load_state_dict(state)",
        f"return net.{'train' if graph.phase == 'TRAIN' else 'eval'}()",
    ]
    lines = [
        f"def load(weights: Path = WEIGHTS) -> {name}:",
        '    """Return the net with its weights, on the CPU."""',
        *(wrap(line, 4) for line in statements),
    ]
    return "\n".join(lines)


def _main(graph: Graph, parameters: Sequence[str]) -> str:
    lines = ['if __name__ == "__main__":']
    for name, declared in zip(parameters, graph.inputs, strict=True):
        sizes = ", ".join(map(str, declared.shape)) or "()"
        lines.append(wrap(f"{name} = torch.zeros({sizes})", 4))
    run = f"load()({', '.join(parameters)})"
    lines.append("    with torch.no_grad():")
    if len(graph.outputs) == 1:
        lines.append(wrap(f"print(tuple({run}.shape))", 8))
    else:
        lines.append(wrap(f"outputs = {run}", 8))
        lines.append("    for blob, value in outputs.items():")
        lines.append("        print(blob, tuple(value.shape))")
    return "\n".join(lines)
