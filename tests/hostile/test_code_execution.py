"""No file that is read can run code, and none unpacks to more than it should."""

from __future__ import annotations

import ast
import io
import keyword
import pickle
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.errors import Caffe2TorchError
from caffe2torch.io.npz import read_npz
from caffe2torch.lower.signature import parameters_of
from squeezenet.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint
from squeezenet.weights import load_model, load_weights

ROOT = Path(__file__).parents[2]
NET = ROOT / "tests" / "conformance" / "cases" / "conv_hw"


class Touch:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return file.getvalue()


def torch_archive(content: Any) -> bytes:
    data = pickle.dumps(content, 2)
    return archive({"a/data.pkl": data, "a/version": b"3\n", "a/byteorder": b"little"})


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code-ran"


READERS = {
    "read": caffe2torch.read,
    "load": caffe2torch.load,
    "load_weights": load_weights,
    "load_checkpoint": load_checkpoint,
    "load_model": load_model,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["zip", "bare", "torch.save", "old torch.save"])
def test_a_pickle_with_code(tmp_path: Path, mark: Path, reader: str, form: str) -> None:
    path = tmp_path / "net.pt"
    if form == "zip":
        path.write_bytes(torch_archive({"metadata": Touch(mark), "state_dict": {}}))
    elif form == "bare":
        path.write_bytes(pickle.dumps(Touch(mark)))
    else:
        torch.save(
            {"metadata": "{}", "state_dict": {}, "x": Touch(mark)},
            path,
            _use_new_zipfile_serialization=form == "torch.save",
        )
    with pytest.raises(Caffe2TorchError):
        READERS[reader](path)
    assert not is_checkpoint(path)
    assert not mark.exists()


def test_a_pickle_with_code_among_the_arrays_of_an_npz(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "r.npz"
    objects = np.empty(1, object)
    objects[0] = Touch(mark)
    np.savez(path, out=objects)
    with pytest.raises(Caffe2TorchError):
        read_npz(path, "recorded outputs")
    path.write_bytes(archive({"out.npy": pickle.dumps(Touch(mark))}))
    assert read_npz(path, "recorded outputs") == {}
    assert not mark.exists()


BOMB = 80 << 20


def test_zip_bombs(tmp_path: Path) -> None:
    sound = tmp_path / "net.pt"
    caffe2torch.convert(NET / "net.caffemodel", sound, NET / "net.prototxt")
    with zipfile.ZipFile(sound) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    weight = next(name for name in members if "/data/" in name)
    path = tmp_path / "bomb.pt"
    path.write_bytes(archive(members | {weight: bytes(BOMB)}, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < BOMB // 100
    with pytest.raises(Caffe2TorchError, match="would unpack to"):
        caffe2torch.read(path)
    with pytest.raises(Caffe2TorchError):
        load_checkpoint(path)
    path.write_bytes(archive(members, zipfile.ZIP_DEFLATED))
    with pytest.raises(Caffe2TorchError, match="no such file is made by saving arrays"):
        caffe2torch.read(path)


def test_npz_bombs(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    np.savez_compressed(path, out=np.zeros(BOMB // 4, np.float32))
    with pytest.raises(Caffe2TorchError, match="would unpack to"):
        read_npz(path, "recorded outputs")
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**10)}
    np.lib.format.write_array_header_1_0(header, claim)
    path.write_bytes(archive({"out.npy": header.getvalue() + bytes(64)}))
    with pytest.raises(Caffe2TorchError, match=r"is not an \.npz file"):
        read_npz(path, "recorded outputs")
    np.savez_compressed(path, out=np.zeros(1000, np.float32))
    assert read_npz(path, "recorded outputs")["out"].shape == (1000,)


@pytest.mark.parametrize(
    "content",
    [
        {"model": {}},
        {"architecture": {"name": "squeezenet", "version": "1.1", "num_classes": 10**9}},
        {"config": 3, "architecture": None},
    ],
)
def test_checkpoints_with_other_content(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {"conv10.bias": torch.zeros(3)}, "ema": None, **content})
    with pytest.raises(Caffe2TorchError, match="not what belongs there"):
        load_model(path)


def test_a_python_layer_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "x" input_shape { dim: 1 } layer { name: "a" type: "Python" bottom: "x" top: "a"\n'
        '  python_param { module: "antigravity" layer: "X" param_str: "import os" } }'
    )
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "o.pt")])
    assert result.exit_code == 2
    assert "layer 'a' (Python)" in result.output
    for kind in ("_base", "..api", "os", "_runtime.pool", "a.b", "dunder__"):
        path.write_text(f'input: "x" layer {{ name: "a" type: "{kind}" bottom: "x" top: "a" }}')
        with pytest.raises(Caffe2TorchError, match="is not supported"):
            caffe2torch.read(None, path)


def calls(path: Path) -> set[str]:
    """Names called in a source file, as ``eval`` or ``module.function``."""
    tree = ast.parse(path.read_text())
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {ast.unparse(f) for f in functions if isinstance(f, ast.Name | ast.Attribute)}


EXECUTES = {
    # The program that the user starts, and nothing that it or a net names.
    "caffe2torch/pycaffe/__main__.py": {"exec", "compile"},
    # A parameter list of identifiers, see test_names_of_inputs_are_identifiers.
    "caffe2torch/lower/signature.py": {"exec"},
    # The source just written of a net, in which names of the net are identifiers or texts.
    "caffe2torch/engines/source.py": {"spec.loader.exec_module"},
    # A file that this package or a plugin of the user's is.
    "caffe2torch/consumers/_process.py": {"spec.loader.exec_module"},
}
EXECUTING = {"eval", "exec", "compile", "__import__", "spec.loader.exec_module"}


def test_nothing_evaluates_text_or_unpickles() -> None:
    for package in ("caffe2torch", "squeezenet"):
        for path in (ROOT / package).rglob("*.py"):
            found = calls(path)
            allowed = EXECUTES.get(path.relative_to(ROOT).as_posix(), set())
            assert found & EXECUTING == allowed, path
            assert not found & {"pickle.load", "pickle.loads", "marshal.loads", "yaml.load"}, path
            if "torch.load" in found:
                assert "weights_only=True" in path.read_text(), path
            if "np.load" in found:
                assert path.read_text().count("np.load(") == path.read_text().count(
                    "allow_pickle=False"
                ) - path.read_text().count("write_array("), path


@pytest.mark.parametrize(
    "blob",
    [
        "x=print(1)",
        "x): pass\nimport os",
        "class",
        "self",
        "inherited",
        "__import__",
        "x\u2028y",
        "\uff4e",
        "",
        "\n",
        "None",
        "match",
        "x" * 5000,
    ],
)
def test_names_of_inputs_are_identifiers(blob: str) -> None:
    names = parameters_of((blob, "data", blob + " "))
    assert len({unicodedata.normalize("NFKC", name) for name in names}) == 3
    for name in names:
        assert name.isidentifier()
        assert not keyword.iskeyword(name)
        assert name not in ("self", "inherited")


def test_pickles_that_take_all_memory_or_time(tmp_path: Path) -> None:
    def refuse(data: bytes, cause: str) -> None:
        path = tmp_path / "net.pt"
        path.write_bytes(archive({"a/data.pkl": data, "a/version": b"3\n"}))
        with pytest.raises(Caffe2TorchError, match=cause):
            caffe2torch.read(path)
        with pytest.raises(Caffe2TorchError):
            load_checkpoint(path)

    refuse(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\xff\xff\xff\xff\x10\x85R.", "bytearray")
    refuse(pickle.dumps({"x": {1, 2}}, 2), "__builtin__ set")
    # Written by hand: to pickle such keys one would have to hash them.
    tuples = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60))
    refuse(b"\x80\x02" + tuples + b"}h\x3cNs.", "keys that no saved state has")
    wide = b"(" + b"K\x01" * 3000 + b"tq\x00"
    refuse(b"\x80\x02" + wide + b"}" + b"h\x00Ns" * 2000 + b".", "keys that no saved state has")
    refuse(b"\x80\x02}h\x07Ns.", "pickle is corrupt")
    refuse(b"\x80\x02s.", "pickle is corrupt")
