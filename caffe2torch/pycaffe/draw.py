"""Pictures of nets through pydot and graphviz (pycaffe's draw.py): ``pip install pydot``."""

from __future__ import annotations

import os
from typing import Any

from caffe2torch.pycaffe.proto import caffe_pb2

Message = Any

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")
_EMPTY = '""'


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the ways of pooling, by number."""
    values = caffe_pb2.PoolingParameter.PoolMethod.DESCRIPTOR.values
    return {value.number: value.name for value in values}


def choose_color_by_layertype(layertype: str) -> str:
    """The colour of a layer's node, as ``#RRGGBB``."""
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_edge_label(layer: Message) -> str:
    """What is written on a layer's edges: its batch size or number of outputs, or two quotes."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return _EMPTY


def get_layer_lr_mult(layer: Message) -> tuple[float, float]:
    """The learning-rate multipliers of weights and biases; ValueError for other layers."""
    if layer.type not in _LEARNING:
        raise ValueError(f"{layer.type} layers have no learning-rate multipliers")
    given = [param.lr_mult for param in layer.param]
    if len(given) > 2:
        raise ValueError(f"layer {layer.name!r} has {len(given)} param entries, more than blobs")
    weights, biases = (*given, 1.0, 1.0)[:2]
    return weights, biases


def get_layer_label(layer: Message, rankdir: str, display_lrm: bool = False) -> str:
    r"""What is written on a layer's node, in quotes.

    The parts stand beside each other in upright pictures (TB, BT), else below each other, by the
    two characters ``\n`` that graphviz reads.
    """
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    kind, spatial = layer.type, []
    if layer.type == "Pooling":
        param = layer.pooling_param
        kind = f"Pooling {get_pooling_types_dict()[param.pool]}"
        spatial = [param.kernel_size, param.stride, param.pad]
    elif layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        pairs = (param.kernel_size, 1), (param.stride, 1), (param.pad, 0)
        spatial = [values[0] if values else default for values, default in pairs]
    parts = [layer.name, f"({kind})"]
    names = ("kernel size", "stride", "pad")
    parts += [f"{name}: {value}" for name, value in zip(names, spatial, strict=False)]
    if display_lrm and layer.type in _LEARNING:
        weights, biases = get_layer_lr_mult(layer)
        if weights or biases:
            parts.append(f"lr mult: {weights:.1f}, {biases:.1f}")
    return f'"{separator.join(parts)}"'


def get_pydot_graph(
    caffe_net: Message,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """A net's picture as a ``pydot.Dot``.

    Args:
        caffe_net: the NetParameter.
        rankdir: LR, TB or BT, where the picture goes to.
        label_edges: write ``get_edge_label`` on what leads to tops.
        phase: only the layers of this phase.
        display_lrm: write learning-rate multipliers on layers.

    Raises:
        ModuleNotFoundError: pydot is not installed.
        ValueError: a layer has include and exclude, with ``phase``.
    """
    try:
        import pydot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing needs pydot (pip install pydot), and graphviz's program dot for pictures",
            name=error.name,
        ) from None
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str, str]] = []
    for layer in caffe_net.layer:
        if phase is not None and not _is_in(layer, phase):
            continue
        own = f"{layer.name}_{layer.type}"
        if len(layer.bottom) == len(layer.top) == 1 and layer.bottom == layer.top:
            style = NEURON_LAYER_STYLE
        else:
            style = LAYER_STYLE_DEFAULT | {"fillcolor": choose_color_by_layertype(layer.type)}
        nodes[own] = pydot.Node(get_layer_label(layer, rankdir, display_lrm), **style)
        for bottom in layer.bottom:
            nodes[f"{bottom}_blob"] = pydot.Node(bottom, **BLOB_STYLE)
            edges.append((f"{bottom}_blob", own, _EMPTY))
        for top in layer.top:
            nodes[f"{top}_blob"] = pydot.Node(top)
            edges.append((own, f"{top}_blob", get_edge_label(layer) if label_edges else _EMPTY))
    graph = pydot.Dot(caffe_net.name or "Net", graph_type="digraph", rankdir=rankdir)
    for node in nodes.values():
        graph.add_node(node)
    for start, end, label in edges:
        graph.add_edge(pydot.Edge(nodes[start], nodes[end], label=label))
    return graph


def _is_in(layer: Message, phase: int) -> bool:
    """Whether a layer's rules let it into a net of ``phase``."""
    if layer.include and layer.exclude:
        raise ValueError(f"layer {layer.name!r} has both include and exclude; keep one of them")
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def draw_net(
    caffe_net: Message,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """A net's picture in a format of graphviz: png, svg, pdf, raw (its text).

    Raises FileNotFoundError without graphviz's program dot, and as ``get_pydot_graph``.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    picture: bytes = graph.create(format=ext)
    return picture


def draw_net_to_file(
    caffe_net: Message,
    filename: str,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write a net's picture; the format is the file's suffix. Raises as ``draw_net``."""
    ext = os.fspath(filename).rpartition(".")[2]
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with open(filename, "wb") as file:
        file.write(picture)
