"""Run emitted sources without caffe2torch: ``python run_sources.py FOLDER``.

For each ``NAME.py`` the inputs are in ``NAME.in.npz``; the outputs go to ``NAME.out.npz``.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch

sys.modules["caffe2torch"] = None  # type: ignore[assignment]  # any import of it now fails


def run(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("emitted", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(path.with_suffix(".in.npz")) as file:
        inputs = [torch.from_numpy(file[key]) for key in file.files]
    with torch.no_grad():
        result = module.load()(*inputs)
    outputs = {"": result} if isinstance(result, torch.Tensor) else result
    arrays = {f"{i}:{name}": value.numpy() for i, (name, value) in enumerate(outputs.items())}
    np.savez(path.with_suffix(".out.npz"), **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for source in sorted(Path(sys.argv[1]).glob("*.py")):
        try:
            run(source)
        except Exception as error:
            print(f"{source.name}: {type(error).__name__}: {error}")
