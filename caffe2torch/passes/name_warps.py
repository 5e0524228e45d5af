"""Which fork's a Warp layer is, by the layers around it."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.passes.draft import Draft


def name_warps(draft: Draft) -> None:
    """Say what a Warp without ``warp_param`` does, where the net shows it.

    The second bottom of LiteFlowNet's holds places, which come from its Grid layers; that of
    PWC-Net's is a flow, which layers of a net without Grid compute. Before::

        layer { name: "g" type: "Grid" bottom: "flow" top: "g" }
        layer { name: "p" type: "Eltwise" bottom: "flow" bottom: "g" top: "p" }
        layer { name: "w" type: "Warp" bottom: "image" bottom: "p" top: "y" }

    After: the last with ``warp_param { adds_flow: false }``.
    """
    layers = draft.net.layer
    any_grid = any(layer.type == "Grid" for layer in layers)
    of_grid: set[str] = set()
    computed: set[str] = set()
    for layer in layers:
        if layer.type == "Grid" or of_grid.intersection(layer.bottom):
            of_grid.update(layer.top)
        else:
            of_grid.difference_update(layer.top)
        if layer.bottom:
            computed.update(layer.top)
        if layer.type != "Warp" or len(layer.bottom) != 2 or _is_named(layer):
            continue
        places = layer.bottom[1]
        if places in of_grid or (not any_grid and places in computed):
            text = f"warp_param {{ adds_flow: {'false' if any_grid else 'true'} }}"
            layer.unknown_field.add(name="warp_param", text=text)


def _is_named(layer: Message) -> bool:
    return any(unknown.name == "warp_param" for unknown in layer.unknown_field)
