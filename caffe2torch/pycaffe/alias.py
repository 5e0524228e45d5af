"""``import caffe`` for programs that are not changed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from caffe2torch import pycaffe


def install() -> None:
    """Have ``import caffe`` and its submodules mean this package, in this process.

    Processes that it starts by ``multiprocessing`` inherit that with Python's path. No module is
    loaded twice: ``caffe.io`` and ``caffe2torch.pycaffe.io`` are one object. No package of the name
    ``caffe`` is installed or looked for, so one that is there stays unharmed.
    """
    sys.modules["caffe"] = pycaffe
    folder = str(Path(__file__).with_name("processes"))
    if folder not in sys.path:
        sys.path.insert(1, folder)
    prefix = f"{pycaffe.__name__}."
    for module in pkgutil.walk_packages(pycaffe.__path__, prefix):
        if not module.name.endswith("__main__"):
            name = module.name.removeprefix(prefix)
            sys.modules[f"caffe.{name}"] = importlib.import_module(module.name)
    for name in ("pycaffe", "_caffe"):  # Where genuine Caffe has the same names.
        sys.modules[f"caffe.{name}"] = pycaffe
        setattr(pycaffe, name, pycaffe)
