"""Who may import whom, and why: imports inside of functions count, those for types only do not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from torch import nn

from caffe2torch.passes.naming import RESERVED

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for top in ("caffe2torch", "squeezenet", "tools") for path in ROOT.glob(f"{top}/**/*.py")
)
FLOORS = (
    (
        {"errors", "extensions", "version"},
        "What everything may raise and name, and what other packages add. Imports nothing of ours.",
    ),
    (
        {"io", "graph", "preprocessing", "images", "cuts", "compare", "finite"},
        "Bytes, messages and plain data. They know of no layer type, so that a file can be read "
        "and looked at without any.",
    ),
    (
        {"layers"},
        "One Caffe type a file. A layer sees shapes and arrays, never the net around it, so that "
        "a new type touches nothing else and a plugin can do all that the package can.",
    ),
    (
        {"passes"},
        "From a message to nodes, step by step: they ask layers for shapes and blobs.",
    ),
    (
        {"pipeline"},
        "The one function that puts the passes in order and gives a Graph.",
    ),
    (
        {"data"},
        "What Caffe's data layers read, as batches of tensors: files and databases, no net.",
    ),
    (
        {"rewrites"},
        "Graph to Graph: they build the changed graph as the pipeline does.",
    ),
    (
        {"lower"},
        "Graph to torch, to source and to ONNX. A lowering must not know how a graph came about.",
    ),
    (
        {"artefact", "compressed"},
        "Lowered graphs and their record as files. What can be written can be read again.",
    ),
    (
        {"engines"},
        "What runs a graph or a file of ours, on one form: torch, ONNX Runtime, OpenCV, records.",
    ),
    (
        {"api"},
        "What a program calls: read, load, convert.",
    ),
    (
        {"parity", "opencv", "consumers", "inference", "int8", "float16", "lacking", "summary"},
        "What is done with a conversion: proof, OpenCV's face, files for other programs, a faster "
        "module, int8, a table.",
    ),
    (
        {"training"},
        "A net with its data, its losses and its solver: what Caffe's own program runs.",
    ),
    (
        {"pycaffe"},
        "Caffe's Python interface on nets and solvers of ours.",
    ),
    (
        {"", "commands", "cli", "__main__"},
        "The faces: the package's own names and the command line. Nothing imports them.",
    ),
)
"""The rooms of caffe2torch from the ground up, and what each floor is for.

A room may import the rooms of the floors below it and those of its own floor. Data flows up,
so that each floor can be understood, tested and replaced with the floors below alone.
"""
ORDER = ("caffe2torch", "squeezenet")
"""The converter knows no model: squeezenet, one model, stands wholly above it. Tools use both,
and nothing imports them, because they are not installed."""
HEAVY = {"torch", "onnx", "onnxruntime", "cv2"}
"""Libraries that take up to seconds to import: `--help` and `inspect` must not wait for them."""
HEAVY_AT_THE_TOP = {
    "caffe2torch/lower/eager.py": {"torch"},
    "caffe2torch/lower/to_torch.py": {"torch"},
    "caffe2torch/lower/fast.py": {"torch"},
    "caffe2torch/lower/overwritten.py": {"torch"},
    "caffe2torch/lower/to_onnx.py": {"onnx"},
    "caffe2torch/lower/fold_onnx.py": {"onnx"},
    "caffe2torch/lower/half.py": {"onnx"},
    "caffe2torch/lower/opset.py": {"onnx"},
    "caffe2torch/consumers/_aten.py": {"torch"},
    "caffe2torch/consumers/_program.py": {"torch"},
    "caffe2torch/cuts.py": {"torch"},
    "caffe2torch/data/prefetch.py": {"torch"},
    "caffe2torch/training/side_stream.py": {"torch"},
    "caffe2torch/data/slots.py": {"torch"},
    "caffe2torch/data/source.py": {"torch"},
    "caffe2torch/data/transformer.py": {"torch"},
    "caffe2torch/training/averaging.py": {"torch"},
    "caffe2torch/training/optimisers.py": {"torch"},
    "caffe2torch/training/distributed.py": {"torch"},
    "caffe2torch/training/learned.py": {"torch"},
    "caffe2torch/training/net.py": {"torch"},
    "caffe2torch/training/precision.py": {"torch"},
    "caffe2torch/training/update.py": {"torch"},
    "caffe2torch/training/fed.py": {"torch"},
    "caffe2torch/training/loop.py": {"torch"},
    "caffe2torch/training/engine.py": {"torch"},
    "caffe2torch/training/run.py": {"torch"},
    "caffe2torch/training/score.py": {"torch"},
    "caffe2torch/opencv/errors.py": {"cv2"},  # Its base class; only programs with OpenCV come here.
    "caffe2torch/opencv/models.py": {"cv2"},
}
"""Files that are themselves imported only where the library is needed."""
RUNTIME = "caffe2torch/layers/_runtime/"
"""Its code is imported where torch is needed, or copied as text into emitted source."""
PYCAFFE = "caffe2torch/pycaffe/"
"""Programs come here to run nets: all of it stands on torch."""
ONLY_IN = {
    # One lowering writes it; quantisation turns a file into another; a classifier reads one;
    # what only one program reads otherwise is in the file of that consumer.
    "onnx": {
        "caffe2torch/consumers/",
        "caffe2torch/lower/to_onnx.py", "caffe2torch/lower/fold_onnx.py", "caffe2torch/int8.py",
        "caffe2torch/lower/opset.py", "caffe2torch/lower/half.py", "caffe2torch/artefact/onnx.py",
        "squeezenet/classifier.py",
    },
    # One place makes sessions; quantisation is ONNX Runtime's.
    "onnxruntime": {"caffe2torch/engines/onnxruntime.py", "caffe2torch/int8.py"},
    # One loop over a file's bytes; of the others, one takes what is downloaded, and one arrays.
    "hashlib": {
        "caffe2torch/io/checksum.py", "squeezenet/download.py", "caffe2torch/parity/feed.py",
    },
}  # fmt: skip


class Import(NamedTuple):
    """``module`` as an import names it, and whether it is done when the file is imported."""

    module: str
    at_the_top: bool


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> list[Import]:
    """All imports of a file, but those under ``if TYPE_CHECKING``."""

    def walk(node: ast.AST, at_the_top: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_the_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{'.' * node.level}{node.module or ''}"
            assert not node.level, f"{place(path)}: {module} is relative"
            # `from caffe2torch import errors` names a module by its last word.
            names = [f"{module}.{alias.name}" for alias in node.names]
            deeper = [name for name in names if is_module(name)]
            yield from (Import(name, at_the_top) for name in deeper or [module])
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_the_top and not in_function)

    return list(walk(ast.parse(path.read_text()), True))


def room_of(module: str) -> str:
    """``io`` of ``caffe2torch.io.npz``; ``""`` of ``caffe2torch`` itself."""
    return module.partition(".")[2].partition(".")[0]


def module_of(path: Path) -> str:
    return place(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


FLOOR_OF = {room: floor for floor, (rooms, _) in enumerate(FLOORS) for room in rooms}


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_come_from_below(path: Path) -> None:
    module = module_of(path)
    package = module.partition(".")[0]
    for imported in imports(path):
        top = imported.module.partition(".")[0]
        if top not in ORDER or package not in ORDER:
            continue
        assert ORDER.index(top) <= ORDER.index(package), f"{package} imports {imported.module}"
        if package == top == "caffe2torch":
            own, other = room_of(module), room_of(imported.module)
            _, why = FLOORS[FLOOR_OF[own]]
            assert other in FLOOR_OF, f"give the room {other!r} a floor"
            assert FLOOR_OF[other] <= FLOOR_OF[own], f"{imported.module}: {why}"


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    modules = [module_of(path) for path in FILES]
    rooms = {room_of(module) for module in modules if module.startswith("caffe2torch")}
    assert rooms == set(FLOOR_OF), "a new room needs a floor, and one that is gone none"
    assert sum(len(rooms) for rooms, _ in FLOORS) == len(FLOOR_OF)
    assert all(why for _, why in FLOORS)


@pytest.mark.parametrize("path", FILES, ids=place)
def test_heavy_libraries_are_imported_where_they_are_needed(path: Path) -> None:
    name = place(path)
    found = imports(path)
    if name.startswith("caffe2torch/"):
        heavy = {i.module.split(".")[0] for i in found if i.at_the_top} & HEAVY
        allowed = (
            {"torch"} if name.startswith((RUNTIME, PYCAFFE)) else HEAVY_AT_THE_TOP.get(name, set())
        )
        assert heavy <= allowed
    if not name.startswith("tools/"):
        everywhere = {i.module.split(".")[0] for i in found}
        assert not [
            lib for lib in everywhere & set(ONLY_IN) if not name.startswith(tuple(ONLY_IN[lib]))
        ]


def test_every_exception_is_used() -> None:
    top = {place(p): {i.module.split(".")[0] for i in imports(p) if i.at_the_top} for p in FILES}
    for name, libraries in HEAVY_AT_THE_TOP.items():
        assert libraries <= top[name], name
    everywhere = {place(path): {i.module.split(".")[0] for i in imports(path)} for path in FILES}
    for library, names in ONLY_IN.items():
        for start in names:
            assert any(
                library in found for name, found in everywhere.items() if name.startswith(start)
            )


def test_tests_make_one_kind_of_session() -> None:
    tests = [path for path in ROOT.glob("tests/**/*.py") if path != Path(__file__)]
    makers = {place(path) for path in tests if "InferenceSession(" in path.read_text()}
    assert makers == {"tests/support.py"}


def test_module_attributes_are_reserved() -> None:
    public = {name for name in dir(nn.Module) if not name.startswith("_")}
    assert public <= RESERVED | {"T_destination", "call_super_init"}
