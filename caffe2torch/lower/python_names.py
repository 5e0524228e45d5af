"""Python identifiers for the names in a net, which may hold anything."""

from __future__ import annotations

import builtins
import keyword
import re

LONGEST = 40
"""Characters of a variable's name that are kept."""

MODULE_NAMES = frozenset({"F", "Path", "Tensor", "WEIGHTS", "load", "math", "nn", "self", "torch"})
"""What the emitted file uses itself."""

TAKEN = (
    frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins))
) | MODULE_NAMES


def is_attribute(name: str) -> bool:
    """Whether ``object.name`` is Python that means this very name.

    Letters beyond ASCII would be normalised, and two leading underscores mangled.
    """
    return (
        re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) is not None
        and not name.startswith("__")
        and not keyword.iskeyword(name)
    )


def variable(blob: str) -> str:
    """A variable's name for a blob: ``fire2/squeeze1x1`` is ``fire2_squeeze1x1``."""
    name = re.sub("[^0-9a-z]+", "_", blob.lower())[:LONGEST].strip("_")
    if not name or name[0].isdigit():
        name = f"blob_{name}".rstrip("_")
    return name + "_" if name in TAKEN else name


def class_name(net: str) -> str:
    """A class's name for a net: ``SqueezeNet_v1.1`` is ``SqueezeNetV1_1``."""
    words = [word for word in re.split("[^0-9A-Za-z]+", net) if word]
    name = ""
    for word in words:
        between = "_" if name[-1:].isdigit() and word[0].isdigit() else ""
        name += between + word[0].upper() + word[1:]
    if not name or name[0].isdigit():
        name = f"Net{name}"
    return name[:LONGEST] + ("Net" if name in TAKEN else "")


def legible(text: str) -> str:
    """``text`` for a comment or docstring: what could end it or hide in it becomes ``?``."""
    shown = re.sub(r"[^0-9A-Za-z_ .,:;/+@()-]", "?", text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
