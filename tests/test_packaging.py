"""The wheel and the sdist: what is in them, and that an installed wheel works by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = {".git", ".venv", "build", "dist", "tests"}
SOURCES_ONLY = {"ruff.toml"}
CLOSED = "http://127.0.0.1:9"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Built:
    """The tree that was built and what came of it."""

    tree: Path
    sdist: Path
    from_tree: Path
    from_sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=_not_source)
    # A test that the whole of tests/ stays out needs one that setuptools would take.
    (tree / "tests").mkdir()
    shutil.copy(__file__, tree / "tests")
    build = [sys.executable, "-m", "build", "--no-isolation"]
    run([*build, "--outdir", folder / "both", tree], folder)
    run([*build, "--wheel", "--outdir", folder / "direct", tree], folder)
    (sdist,) = (folder / "both").glob("*.tar.gz")
    (from_sdist,) = (folder / "both").glob("*.whl")
    (from_tree,) = (folder / "direct").glob("*.whl")
    return Built(tree, sdist, from_tree, from_sdist)


def _not_source(folder: str, names: list[str]) -> set[str]:
    top = LEFT_OUT if Path(folder) == ROOT else set()
    return {
        name
        for name in names
        if name in top
        or name.endswith((".egg-info", ".pyc"))
        or re.fullmatch(r"[._].*cache.*", name)
    }


def run(command: list[object], cwd: Path, **environment: str) -> str:
    """Run a command that must succeed; return what it prints on stdout."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_every_file_of_the_packages_and_no_other(built: Built) -> None:
    expected = set()
    for package, source in (
        ("caffe2torch", "caffe2torch"),
        ("squeezenet", "squeezenet"),
        ("squeezenet/manifests", "models"),
    ):
        folder = built.tree / source
        expected |= {
            f"{package}/{path.relative_to(folder).as_posix()}"
            for path in folder.rglob("*")
            if path.is_file() and path.name not in SOURCES_ONLY
        }
    found = files_of(built.from_tree)
    information = {name for name in found if ".dist-info/" in name}
    assert found - information == expected
    assert any(name.endswith("/licenses/LICENSE") for name in information)
    assert {
        "caffe2torch/py.typed",
        "squeezenet/py.typed",
        "caffe2torch/io/caffe.desc",
        "caffe2torch/parity/report.schema.json",
        "caffe2torch/parity/templates/report.html.j2",
        "squeezenet/manifests/squeezenet_v1.1.json",
        "squeezenet/manifests/squeezenet_digits.caffemodel",
        "squeezenet/manifests/digits/val_list.txt",
    } <= found


def test_the_sdist_builds_the_same_wheel(built: Built) -> None:
    assert files_of(built.from_sdist) == files_of(built.from_tree)


def test_the_sdist_has_no_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert not [name for name in names if name.startswith("tests")]
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= set(names)


def test_an_installed_wheel_works(built: Built, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=os.name != "nt", with_pip=False)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    run([*pip, built.from_tree], tmp_path)
    own = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
                   tmp_path).strip())  # fmt: skip
    # The dependencies are those of the environment that runs this test.
    paths = {sysconfig.get_paths()[key] for key in ("purelib", "platlib")}
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))

    places = run(
        [python, "-c", "import caffe2torch, squeezenet;"
         "print(caffe2torch.__file__, squeezenet.__file__, sep='\\n')"],
        tmp_path,
    )  # fmt: skip
    assert all(own in Path(place).parents for place in places.splitlines())
    run([python, "-c", "from squeezenet import load_pretrained"], tmp_path)
    assert "torch" in run([python, "-m", "caffe2torch", "--version"], tmp_path)
    assert "train" in run([scripts / "squeezenet", "--help"], tmp_path)
    output = run(
        [scripts / "caffe2torch", "demo", "--out", "out"],
        tmp_path,
        http_proxy=CLOSED,
        https_proxy=CLOSED,
    )
    assert "demo: PASS" in output
    assert (tmp_path / "out" / "squeezenet_digits.onnx").is_file()
