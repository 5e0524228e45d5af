"""The signature of a module's ``forward``: the net's inputs, by position and by name."""

from __future__ import annotations

from functools import cache
from typing import Any

from caffe2torch.lower.python_names import is_attribute, variable
from caffe2torch.passes.naming import unused


@cache
def with_inputs(cls: Any, blobs: tuple[str, ...]) -> Any:
    """A subclass of ``cls`` whose ``forward`` names the input ``blobs``.

    Before: ``forward(self, *inputs)``. After, for the blobs ``data`` and ``fc/8``:
    ``forward(self, data=None, fc_8=None)``. torch.fx makes placeholders, and torch.export names
    dynamic shapes, by the names that they find in the code of a class's method. A net without
    inputs keeps ``forward(self, inputs=None)``, for an empty dict.
    """
    names = parameters_of(blobs) or ("inputs",)
    text = f"def forward(self, {', '.join(f'{name}=None' for name in names)}):\n"
    text += f"    return inherited(self, {', '.join(names)})\n"
    space: dict[str, Any] = {"inherited": cls.forward}
    exec(text, space)  # Of identifiers alone, as namedtuple and dataclass do it.
    space["forward"].__doc__ = space["inherited"].__doc__
    own = {n: getattr(cls, n) for n in ("__module__", "__qualname__", "__doc__")}
    return type(cls.__name__, (cls,), {**own, "forward": space["forward"]})


def parameters_of(blobs: tuple[str, ...]) -> tuple[str, ...]:
    """The names of ``forward``'s parameters: those of the blobs, where they are identifiers."""
    taken, repeats = {"self", "inherited"}, dict[str, int]()
    names = []
    for blob in blobs:
        wanted = blob if is_attribute(blob) else variable(blob)
        names.append(unused(wanted, "_", taken, repeats))
        taken.add(names[-1])
    return tuple(names)
