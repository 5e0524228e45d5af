"""ONNX models of other opsets: what is written otherwise before and after the lowering's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from caffe2torch.errors import ArtefactError
from caffe2torch.io.schema import replace_all
from caffe2torch.passes.naming import unused

OLDEST = 13
"""Before it, the operators' axes were attributes, where the layers' forms make them inputs."""

NEW_NAMES = {"bilinear": "linear", "bicubic": "cubic"}
"""The modes of GridSample, since opset 20."""


def at_opset(model: onnx.ModelProto, opset: int) -> None:
    """Write ``model`` in the operators of ``opset``, in place; its results stay the same.

    Before, of opset 17: ``y = ReduceMean(x, axes=[2, 3])``.
    After, of opset 18: ``y = ReduceMean(x, axes)`` with the constant ``axes``.

    Raises ArtefactError for an opset that is older than OLDEST or newer than the installed onnx
    knows, and for one without an operator that the model needs.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ArtefactError(
            f"opset {opset} is not between {OLDEST} and {newest}, the newest that onnx "
            f"{onnx.__version__} knows."
        )
    values = {name for node in model.graph.node for name in (*node.input, *node.output)}
    writer = _Writer(opset, {*values, *(i.name for i in model.graph.input)})
    nodes = [new for node in model.graph.node for new in writer.written(node)]
    for node in nodes:
        _check(node, opset, newest)
    replace_all(model.graph.node, nodes)
    model.graph.initializer.extend(writer.constants.values())
    model.opset_import[0].version = opset
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)


@dataclass
class _Writer:
    opset: int
    taken: set[str]
    constants: dict[tuple[int, ...], onnx.TensorProto] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)

    def written(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The nodes that do in the opset what ``node`` does in the lowering's."""
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for applies, write in FORMS:
            if applies(node, given, self.opset):
                yield from write(self, node, given)
                return
        yield node

    def const(self, values: Sequence[int]) -> str:
        key = tuple(values)
        if key not in self.constants:
            name = self.fresh(f"opset{self.opset}/const")
            self.constants[key] = numpy_helper.from_array(np.array(values, np.int64), name)
        return str(self.constants[key].name)

    def fresh(self, name: str) -> str:
        name = unused(name, "'", self.taken, self.repeats)
        self.taken.add(name)
        return name

    def again(
        self, node: onnx.NodeProto, inputs: Sequence[str], given: dict[str, Any]
    ) -> onnx.NodeProto:
        """``node`` with other inputs and attributes."""
        return helper.make_node(node.op_type, inputs, node.output, name=node.name, **given)

    def axes_as_input(
        self, node: onnx.NodeProto, given: dict[str, Any]
    ) -> Iterator[onnx.NodeProto]:
        """Reductions but ReduceSum took their axes as an attribute before opset 18."""
        axes = self.const(given.pop("axes"))
        yield self.again(node, [*node.input, axes], given)

    def equal_parts(self, node: onnx.NodeProto, given: dict[str, Any]) -> Iterator[onnx.NodeProto]:
        """Split says the number of its parts since opset 18."""
        yield self.again(node, node.input, {**given, "num_outputs": len(node.output)})

    def named_modes(self, node: onnx.NodeProto, given: dict[str, Any]) -> Iterator[onnx.NodeProto]:
        """GridSample has other names for its modes since opset 20."""
        mode = given["mode"].decode()
        yield self.again(node, node.input, {**given, "mode": NEW_NAMES.get(mode, mode)})

    def sliced_shape(self, node: onnx.NodeProto, given: dict[str, Any]) -> Iterator[onnx.NodeProto]:
        """Shape gives all sizes before opset 15."""
        whole = self.fresh(f"{node.name}/all")
        yield helper.make_node("Shape", node.input, [whole], name=whole)
        start, end = given.get("start", 0), given.get("end", np.iinfo(np.int64).max)
        ends = (self.const([start]), self.const([end]))
        yield helper.make_node("Slice", [whole, *ends], node.output, name=node.name)

    def hard_swish(self, node: onnx.NodeProto, given: dict[str, Any]) -> Iterator[onnx.NodeProto]:
        """HardSwish is x * HardSigmoid(x) before opset 14."""
        gate = self.fresh(f"{node.name}/gate")
        slope = {"alpha": 1 / 6, "beta": 0.5}
        yield helper.make_node("HardSigmoid", node.input, [gate], name=gate, **slope)
        yield helper.make_node("Mul", [*node.input, gate], node.output, name=node.name)

    def aligned_regions(
        self, node: onnx.NodeProto, given: dict[str, Any]
    ) -> Iterator[onnx.NodeProto]:
        """RoiAlign shifts no region before opset 16."""
        del given["coordinate_transformation_mode"]
        yield self.again(node, node.input, given)


Applies = Callable[[onnx.NodeProto, dict[str, Any], int], bool]
Write = Callable[[_Writer, onnx.NodeProto, dict[str, Any]], Iterator[onnx.NodeProto]]


def _is_reduction(node: onnx.NodeProto, given: dict[str, Any], opset: int) -> bool:
    return opset >= 18 and node.op_type.startswith("Reduce") and "axes" in given


def _is_equal_split(node: onnx.NodeProto, given: dict[str, Any], opset: int) -> bool:
    return opset >= 18 and node.op_type == "Split" and len(node.input) == 1


def _is_sampling(node: onnx.NodeProto, given: dict[str, Any], opset: int) -> bool:
    return opset >= 20 and node.op_type == "GridSample" and "mode" in given


def _is_part_of_shape(node: onnx.NodeProto, given: dict[str, Any], opset: int) -> bool:
    return opset < 15 and node.op_type == "Shape" and bool(given)


def _is_hard_swish(node: onnx.NodeProto, given: dict[str, Any], opset: int) -> bool:
    return opset < 14 and node.op_type == "HardSwish"


def _is_unshifted(node: onnx.NodeProto, given: dict[str, Any], opset: int) -> bool:
    mode = given.get("coordinate_transformation_mode")
    return opset < 16 and node.op_type == "RoiAlign" and mode == b"output_half_pixel"


FORMS: Sequence[tuple[Applies, Write]] = (
    (_is_reduction, _Writer.axes_as_input),
    (_is_equal_split, _Writer.equal_parts),
    (_is_sampling, _Writer.named_modes),
    (_is_part_of_shape, _Writer.sliced_shape),
    (_is_hard_swish, _Writer.hard_swish),
    (_is_unshifted, _Writer.aligned_regions),
)
"""Which nodes are written otherwise in which opset, and how."""


def _check(node: onnx.NodeProto, opset: int, newest: int) -> None:
    """Raise ArtefactError if the opset has no such operator, or not all of its attributes."""
    if node.domain or _has(node, opset):
        return
    later = [n for n in range(opset + 1, newest + 1) if _has(node, n)]
    raise ArtefactError(
        f"opset {opset} cannot say what {node.op_type} does at {node.name!r}; "
        + (f"use opset {later[0]} or a later one." if later else "leave the opset out.")
    )


def _has(node: onnx.NodeProto, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    return not schema.deprecated and all(a.name in schema.attributes for a in node.attribute)
