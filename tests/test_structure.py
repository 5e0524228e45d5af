"""The direction of imports: graph <- layers <- passes, lower <- parity <- cli."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from torch import nn

from caffe2torch.passes.naming import RESERVED

PACKAGE = Path(__file__).parents[1] / "caffe2torch"
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {
    "io": {"layers", "passes", "lower", "parity", "cli"},
    "layers": {"passes", "lower", "parity", "cli", "api"},
    "passes": {"lower", "parity", "cli", "api"},
    "lower": {"passes", "parity", "cli", "api"},
    "engines": {"parity", "opencv", "commands", "cli", "api"},
    "parity": {"cli"},
    "opencv": {"parity", "cli"},
}


def imports(path: Path, top_level: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    top = imports(path, top_level=True)
    for name in FORBIDDEN.get(folder, set()):
        assert not any(m.startswith(f"caffe2torch.{name}") for m in top)
    heavy = {m.split(".")[0] for m in top} & {"torch", "onnx", "onnxruntime", "cv2"}
    allowed = {
        "lower/to_torch.py": {"torch"},
        "lower/packed.py": {"torch"},
        "lower/to_onnx.py": {"onnx"},
        "lower/onnx_half.py": {"onnx"},
        "opencv/errors.py": {"cv2"},  # Its base class; only programs with OpenCV come here.
    }
    place = path.relative_to(PACKAGE)
    # The code in _runtime is imported where torch is needed, or copied as text.
    of_folder = {"torch"} if place.parent.as_posix() == "layers/_runtime" else set()
    assert heavy <= allowed.get(place.as_posix(), of_folder)
    everywhere = {m.split(".")[0] for m in imports(path, top_level=False)}
    # Quantisation is ONNX Runtime's: it turns an ONNX file into another.
    quantises = place.as_posix() == "int8.py"
    if path.name not in ("to_onnx.py", "onnx_half.py") and not quantises:
        assert "onnx" not in everywhere
    # One place makes sessions of ONNX Runtime.
    if place.as_posix() != "engines/onnxruntime.py" and not quantises:
        assert "onnxruntime" not in everywhere


def test_module_attributes_are_reserved() -> None:
    public = {name for name in dir(nn.Module) if not name.startswith("_")}
    assert public <= RESERVED | {"T_destination", "call_super_init"}
