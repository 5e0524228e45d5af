"""Graph -> torch.nn.Module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from caffe2torch.errors import NetError
from caffe2torch.graph import FloatArray, Graph, Node, Shape
from caffe2torch.io.origin import located
from caffe2torch.layers import Layer
from caffe2torch.layers._runtime.arrays import is_tracing
from caffe2torch.layers._runtime.recurrent import Recurrent
from caffe2torch.lower.eager import (
    EagerTorch,
    Function,
    LayerModule,
    check_indices,
    function_of,
    module_of,
    one_node,
)
from caffe2torch.lower.memory import kept_values
from caffe2torch.lower.overwritten import Lost, call, lost_gradients, rereads
from caffe2torch.lower.recorder import is_module_alone
from caffe2torch.lower.signature import with_inputs

Inputs = Tensor | Mapping[str, Tensor]
Outputs = Tensor | dict[str, Tensor]


class Step(NamedTuple):
    """A node's part in a forward pass."""

    path: tuple[str, ...]
    """Names that lead from the net to its submodule."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]
    """Values that nothing reads afterwards."""
    cut: tuple[int, ...]
    """Positions of inputs that get no gradient, see ``Node.cut`` and ``lost_gradients``."""


def to_torch(graph: Graph) -> CaffeModule:
    """Lower ``graph`` to a module on the CPU; the module owns copies of the weights.

    A net of phase TRAIN comes in training mode, one of phase TEST in evaluation mode.
    """
    with located(graph.origin):
        return CaffeModule(graph).train(graph.phase == "TRAIN")


def graph_with_weights(module: CaffeModule) -> Graph:
    """The graph of ``module`` with its present weights."""
    params: dict[str, FloatArray] = {}
    for node in module.caffe_graph.nodes:
        arrays = arrays_of(module, node)
        params |= {key: arrays[name] for name, key in node.params.items()}
    return replace(module.caffe_graph, params=params)


def arrays_of(module: nn.Module, node: Node) -> dict[str, FloatArray]:
    """The present learned arrays of a node, by the layer's own names."""
    own = module.get_submodule(node.key)
    return {name: array_of(getattr(own, name)) for name in node.params}


def array_of(tensor: Tensor) -> FloatArray:
    """The values of a tensor on any device, in float32."""
    return tensor.detach().float().cpu().numpy()


class CaffeModule(nn.Module):
    """A Caffe net as a torch module.

    Layers are submodules named by their Caffe names with ``/`` read as ``.``
    (``fire2.squeeze1x1``). A batch of any size is accepted where the net allows it. Inputs are
    given by position, in the net's order, by name, or as one dict: ``net(data, label)``,
    ``net(data=data, label=label)``, ``net({"data": data, "label": label})``.

    Attributes:
        input_names: the Caffe blobs that the caller feeds, in order.
        output_names: the Caffe output blobs, in Caffe's order.
        caffe_graph: the net it was lowered from, without its weights.
    """

    def __new__(cls, graph: Graph) -> CaffeModule:
        """An instance of a subclass whose ``forward`` names the net's inputs."""
        return super().__new__(_naming_inputs(cls, tuple(i.name for i in graph.inputs)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _bare, (type(self).__bases__[0], self.input_names), self.__getstate__()  # type: ignore[no-untyped-call]

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.caffe_graph = replace(graph, params={})
        self.input_names = tuple(i.name for i in graph.inputs)
        self.output_names = graph.outputs
        self.preprocessing = graph.preprocessing
        self._around: dict[tuple[str, ...], tuple[Layer, Sequence[Shape]]] = {}
        """Layer and declared bottoms, by path, where the torch form is more than the module."""
        self._add_layers(graph)
        self._kept = kept_values(graph)
        lost = lost_gradients(graph)
        self._rereads = rereads(graph, lost)
        self._steps = steps_of(graph, self._rereads, lost)
        self._remembered = frozenset(
            name for one in self._rereads.values() for name in (*one.bottoms, *one.tops)
        )

    def forward(self, *inputs: Inputs | None) -> Outputs:
        """Run the net.

        Args:
            inputs: a tensor for each input blob in the net's order, or ``{blob: tensor}`` alone.
                Each is also a keyword argument, by the blob's name (``fc_8`` for ``fc/8``).

        Returns:
            The output blob as a tensor, or ``{blob: tensor}`` in Caffe's order if the net
            has several.

        Raises:
            NetError: an input is missing, unknown or of another rank than declared.
        """
        values = self.values(self._by_name(inputs), ())
        outputs = {blob: values[self.caffe_graph.blobs[blob]] for blob in self.output_names}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def blobs(self, *inputs: Inputs) -> dict[str, Tensor]:
        """Run the net and return every blob by its Caffe name, inputs and outputs included.

        Inputs are those of ``forward``. A blob that layers change in place has the value after
        the last of them.
        """
        values = self.values(self._by_name(inputs))
        return {blob: values[value] for blob, value in self.caffe_graph.blobs.items()}

    def train(self, mode: bool = True) -> CaffeModule:
        """Set training or evaluation mode. Layers with a ``phase`` of their own keep theirs."""
        super().train(mode)
        for key, phase in self.caffe_graph.own_phases.items():
            self.get_submodule(key).training = phase == "TRAIN"
        return self

    def extra_repr(self) -> str:
        """Name, inputs and outputs of the net."""
        inputs = ", ".join(f"{i.name}: {i.shape}" for i in self.caffe_graph.inputs)
        return f"{self.caffe_graph.name!r}, inputs=({inputs}), outputs={self.output_names}"

    def values(
        self,
        inputs: Mapping[str, Tensor],
        names: Collection[str] | None = None,
        around: Callable[[Node, Function], Function] = lambda node, function: function,
    ) -> dict[str, Tensor]:
        """Run the net and return values by their names in the graph, the outputs among them.

        ``inputs`` are by blob. Those of ``names`` are there at the end; None keeps all. ``around``
        makes what is called for a node of the function that computes it.
        """
        values = self._named_inputs(inputs)
        memory: dict[str, Tensor] = {}
        """What Caffe's backward pass finds, as far as that is not what the layers have read."""
        for index, (function, (path, reads, tops, dead, cut)) in enumerate(
            zip(self.functions(values), self._steps, strict=True)
        ):
            function = around(self.caffe_graph.nodes[index], function)
            bottoms = [values[name] for name in reads]
            for position in cut:
                bottoms[position] = bottoms[position].detach()
            try:
                if index in self._rereads:
                    own = EagerTorch(self.get_submodule(".".join(path)))
                    result = call(self._rereads[index], function, own, bottoms, memory)
                else:
                    result = function(*bottoms)
            except (RuntimeError, ValueError, IndexError):
                self._refuse(index, bottoms)
                raise
            if isinstance(result, tuple | list):
                values.update(zip(tops, result, strict=True))
            elif len(tops) > 1:  # A trace of torch.fx: what it stands for cannot be counted.
                values.update((top, result[i]) for i, top in enumerate(tops))
            elif tops:
                values[tops[0]] = result
            for top in self._remembered.intersection(tops):
                if isinstance(values[top], Tensor):  # In a trace of torch.fx it is none.
                    memory[top] = values[top].detach()
            if names is not None:
                for name in dead:
                    if name not in names:
                        del values[name]
        for kept in () if is_tracing() else self._kept:  # What is recorded has no memory.
            self.get_submodule(kept.node.key).keep(values[kept.value], kept.top)  # type: ignore[operator]
        return values

    def _refuse(self, index: int, bottoms: Sequence[Tensor]) -> None:
        """Raise NetError if Caffe would not take these bottoms for node ``index`` either."""
        node, shapes = self.caffe_graph.nodes[index], self.caffe_graph.shapes
        given = [tuple(bottom.shape) for bottom in bottoms]
        with located(self.caffe_graph.origin):
            node.layer.infer_shapes(given)
            declared = node.layer.blob_specs([shapes[name] for name in node.inputs])
            for spec, own in zip(node.layer.blob_specs(given), declared, strict=True):
                if spec.shape != own.shape:
                    raise node.layer.net_error(
                        f"bottoms of shapes {given} need a {spec.name} of shape {spec.shape}; it "
                        f"has {own.shape}, for the shapes {[shapes[n] for n in node.inputs]}."
                    )
            for position in node.layer.index_bottoms:
                if position < len(bottoms):
                    check_indices(node.layer, bottoms[position], given, node.inputs[position])

    def reset_state(self) -> None:
        """Have recurrent layers forget the last pass: the next one begins with a state of 0."""
        for module in self.modules():
            if isinstance(module, Recurrent):
                module.state = ()

    def functions(self, values: Mapping[str, Tensor]) -> Iterable[Function]:
        """What to call at each step of a pass on these inputs."""
        for step in self._steps:
            module: nn.Module = self
            # Looked up on every call, so that a layer the user replaces takes effect.
            for part in step.path:
                module = module._modules[part]  # type: ignore[assignment]  # never None here
            yield self._function(step.path, module)

    def _function(self, path: tuple[str, ...], module: nn.Module) -> Function:
        """What the step at ``path`` calls, now that ``module`` is there."""
        if path not in self._around:
            return one_node(module)
        layer, bottoms = self._around[path]
        return function_of(layer, module, bottoms)

    def _by_name(self, inputs: Sequence[Inputs | None]) -> Mapping[str, Tensor]:
        """The arguments of a call by blob; None is one that was not given."""
        given = [value for value in inputs if value is not None]
        if len(given) == 1 and isinstance(given[0], Mapping):
            return given[0]
        if len(inputs) > len(self.input_names) and given:
            raise NetError(
                f"{len(given)} inputs are given; the net's inputs are "
                f"{', '.join(self.input_names) or 'none'}."
            )
        pairs = zip(self.input_names, inputs, strict=False)
        return {name: value for name, value in pairs if value is not None}  # type: ignore[misc]

    def _named_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if set(inputs) != set(self.input_names):
            odd = sorted(set(inputs) ^ set(self.input_names))[0]
            raise NetError(
                f"the input {odd!r} is {'missing' if odd in self.input_names else 'unknown'}; the "
                f"net's inputs are {', '.join(self.input_names)}."
            )
        for name in self.input_names:
            given, declared = inputs[name], self.caffe_graph.shapes[name]
            # (torch.fx traces with what has no shape yet.)
            if isinstance(given, Tensor) and given.ndim != len(declared):
                raise NetError(
                    f"the input {name!r} has the shape {tuple(given.shape)}; the net "
                    f"declares {declared}, {len(declared)} axes."
                )
        return {name: inputs[name] for name in self.input_names}

    def _add_layers(self, graph: Graph) -> None:
        tensors: dict[str, Tensor] = {}
        for node in graph.nodes:
            bottoms = tuple(graph.shapes[name] for name in node.inputs)
            # Learned arrays are put in afterwards; constants are not.
            with torch.device("meta" if node.params else "cpu"):
                module = module_of(node.layer, bottoms)
            if not isinstance(module, LayerModule) and not is_module_alone(node.layer, bottoms):
                self._around[tuple(node.key.split("."))] = node.layer, bottoms
            _register(module, node, graph.params, tensors)
            self._attach(node.key, module)

    def _attach(self, key: str, module: nn.Module) -> None:
        *path, last = key.split(".")
        parent: nn.Module = self
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        if last in parent._modules:
            for name, child in parent.get_submodule(last).named_children():
                module.add_module(name, child)
        parent._modules[last] = module


def _bare(cls: type[CaffeModule], inputs: tuple[str, ...]) -> CaffeModule:
    """An instance without content, which copy and pickle fill."""
    return nn.Module.__new__(_naming_inputs(cls, inputs))


def _naming_inputs(cls: Any, inputs: tuple[str, ...]) -> type[CaffeModule]:
    made: type[CaffeModule] = with_inputs(cls, inputs)
    return made


def _register(
    module: nn.Module,
    node: Node,
    params: Mapping[str, FloatArray],
    tensors: dict[str, Tensor],
) -> None:
    """Put the arrays of ``node`` into its module; shared keys become one tensor."""
    for name, key in node.params.items():
        is_buffer = name in node.layer.buffers
        if key not in tensors:
            with warnings.catch_warnings():
                # torch warns of writing to a file's read-only memory; this only reads it.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                tensor = torch.from_numpy(params[key]).clone()
            tensors[key] = tensor if is_buffer else nn.Parameter(tensor)
        if is_buffer:
            module.register_buffer(name, tensors[key])
        else:
            module.register_parameter(name, tensors[key])  # type: ignore[arg-type]  # a Parameter


def steps_of(graph: Graph, rereads: Collection[int], lost: Lost) -> list[Step]:
    """What to do for each node. Those of ``rereads`` lose their gradients themselves."""
    keep: set[str] = {graph.blobs[blob] for blob in graph.outputs}
    keep |= {kept.value for kept in kept_values(graph)}
    steps: list[Step] = []
    for index, node in reversed(list(enumerate(graph.nodes))):
        dead = [n for n in dict.fromkeys((*node.inputs, *node.outputs)) if n not in keep]
        keep.update(dead)
        path = tuple(node.key.split("."))
        cut = node.cut if index in rereads else (*node.cut, *lost.get(index, ()))
        steps.append(Step(path, node.inputs, node.outputs, tuple(dead), cut))
    return steps[::-1]
