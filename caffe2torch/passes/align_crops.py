"""The offsets of a Crop without crop_param, which forks find in the layers around it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from caffe2torch.errors import NetError
from caffe2torch.layers._grid import IDENTITY, Grid
from caffe2torch.layers.crop import Crop
from caffe2torch.passes.draft import Draft, DraftNode


def align_crops(draft: Draft) -> None:
    """Say what a Crop without ``crop_param`` does, or with ``crop="fork"`` do what forks do.

    BVLC's Caffe crops at offset 0. The forks of FCN and HED (crop_layer.cpp there) had no
    ``crop_param``: they follow the first bottoms back from both bottoms to the blob that both
    come from, and take the offset at which the same pixels of that blob lie on each other.
    An AutoCrop does so by either rule. Raises NetError where the layers between do not allow it.
    Before, with ``crop="fork"``::

        layer { name: "c" type: "Convolution" bottom: "x" top: "c"
          convolution_param { num_output: 6 kernel_size: 3 pad: 35 } }
        layer { name: "crop" type: "Crop" bottom: "c" bottom: "x" top: "y" }

    After: the same with ``crop_param { offset: 34 offset: 34 }``.
    """
    makers = {value: node for node in draft.nodes for value in node.outputs}
    for node in draft.nodes:
        if not isinstance(node.layer, Crop) or node.proto.HasField("crop_param"):
            continue
        grid, why = _shift(node, makers)
        offsets = [] if grid is None else [int(start) for start in grid.start]
        if node.layer.aligns or draft.options.crop == "fork":
            if not offsets:
                other = "" if node.layer.aligns else ", or choose BVLC's rule (--crop bvlc)"
                raise node.layer.net_error(
                    f"the forks' rule has no offset for it: {why}. Give its crop_param{other}."
                )
            node.proto.crop_param.offset.extend(offsets)
            node.layer = type(node.layer).from_proto(node.proto)
        elif any(offsets):
            draft.warnings.append(
                f"layer {node.proto.name!r} (Crop) has no crop_param: BVLC's Caffe crops at offset "
                f"0, the forks of FCN and HED at {tuple(offsets)}. If the net is one of theirs, "
                'choose their rule (--crop fork, crop="fork"); else give crop_param.'
            )


def _shift(crop: DraftNode, makers: Mapping[str, DraftNode]) -> tuple[Grid | None, str]:
    """Where the second bottom's pixels lie on the first; or None, and why."""
    first, second = ([value, *_behind(value, makers)] for value in crop.inputs)
    common = next((value for value in second if value in first), None)
    if common is None:
        return None, "no layer makes both of its bottoms"
    grids = []
    for path in (first, second):
        total = IDENTITY
        for value in path[: path.index(common)]:
            grid = None
            with suppress(NetError):  # Of other than two spatial axes.
                grid = makers[value].layer.grid()
            if grid is None:
                name, kind = makers[value].proto.name, makers[value].proto.type
                return None, f"where layer {name!r} ({kind}) puts its pixels is not known"
            total = total.after(grid)
        grids.append(total)
    shift = grids[1].after(grids[0].inverse())
    if shift.step != IDENTITY.step:
        return None, "its bottoms have pixels of different sizes"
    if any(start < 0 or start.denominator != 1 for start in shift.start):
        return None, f"it would be ({', '.join(map(str, shift.start))})"
    return shift, ""


def _behind(value: str, makers: Mapping[str, DraftNode]) -> list[str]:
    """The values that ``value`` comes from, by first bottoms."""
    found = []
    while value in makers and makers[value].inputs:
        value = makers[value].inputs[0]
        found.append(value)
    return found
