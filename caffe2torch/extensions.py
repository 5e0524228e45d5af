"""What other packages add to caffe2torch, found by the entry points that they declare.

A package that knows a model adds to its own ``pyproject.toml``, for example::

    [project.entry-points."caffe2torch.commands"]
    prune = "mynet.commands:prune"

Each group is one thing that can be added; what is loaded is:

* ``caffe2torch.commands``: a click command, run as ``caffe2torch NAME``.
* ``caffe2torch.layouts``: for ``convert --layout NAME``, a function of a Graph that gives its
  arrays by the keys that another project gives them, and raises ArtefactError for another net.
* ``caffe2torch.preprocessing``: a function of a Graph that gives the Preprocessing that nets
  like it are known to want, for a file that does not say; None for a net that it does not know.
* ``caffe2torch.nets``: a function without arguments that gives prototxts by the name of the
  net, for Deep Compression files that come without one.

Nothing is imported before it is needed, and names come from the installed packages' own lists,
so that ``caffe2torch --help`` stays fast: importlib.metadata, which reads the same lists, takes
longer to import than all the rest of it. In a source tree, an entry point that
was added is found once the package has been installed again.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import lru_cache
from typing import Any

COMMANDS = "caffe2torch.commands"
LAYOUTS = "caffe2torch.layouts"
PREPROCESSING = "caffe2torch.preprocessing"
NETS = "caffe2torch.nets"


def names(group: str) -> tuple[str, ...]:
    """What the installed packages add to ``group``, in alphabetical order."""
    return tuple(sorted(_entry_points(tuple(sys.path)).get(group, {})))


def module_of(group: str, name: str) -> str:
    """Where ``name`` comes from. Raises KeyError where nothing is added by that name."""
    return _entry_points(tuple(sys.path))[group][name].partition(":")[0]


def load(group: str, name: str) -> Any:
    """Import what ``name`` stands for. Raises KeyError where nothing is added by that name."""
    _, _, attribute = _entry_points(tuple(sys.path))[group][name].partition(":")
    return getattr(importlib.import_module(module_of(group, name)), attribute)


@lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """``module:attribute`` by group and name; the first on the path wins, as for imports."""
    found: dict[str, dict[str, str]] = {}
    for folder in path:
        try:
            entries = sorted(os.listdir(folder or "."))
        except OSError:  # Not there, or a ZIP archive.
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")):
                _read(os.path.join(folder, entry, "entry_points.txt"), found)
    return found


def _read(path: str, found: dict[str, dict[str, str]]) -> None:
    """Add what one package declares: lines ``name = module:attribute`` below ``[group]``."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:  # Most packages declare none.
        return
    group: dict[str, str] = {}
    for line in lines:
        if line.startswith("["):
            group = found.setdefault(line.strip()[1:-1], {})
        elif "=" in line and not line.startswith(("#", ";")):
            name, value = line.split("=", 1)
            group.setdefault(name.strip(), value.split("[")[0].strip())
