"""Every command of README and docs runs, or is in CHANGES with the reason why not.

Convention for the pages: an indented block, and a fence marked bash, is shell; a fence marked
python is a program of its own. Both run, in the order of the page, in one folder
(``doc_world``). A block of another language than shell whose first line is ``# name.suffix``
becomes that file, for the commands after it. A full command between backticks in the text runs
too; of one that is only mentioned (``doc_pages.FULL``) the options must exist. Other fences
name what they hold (``doc_pages.LANGUAGES``) and do not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from doc_pages import (
    LANGUAGES,
    PAGES,
    ROOT,
    SHELL,
    Block,
    anchors,
    blocks,
    commands,
    inline_code,
    links,
    name_of,
)
from doc_world import make_world

import caffe2torch.cli
import squeezenet.cli

MAINS: dict[str, click.Group] = {
    "caffe2torch": caffe2torch.cli.main,
    "squeezenet": squeezenet.cli.main,
}


class Change(NamedTuple):
    """What a test runs in place of a part of a page's commands, and why."""

    page: str
    part: str
    instead: str
    reason: str


INSTALLS = "makes an environment and installs into it; tests/test_packaging.py does that"
RECORDS = (
    "needs genuine weights and records; tests/test_parity.py and tests/test_deep_compression.py "
    "compare with them"
)
COMPRESSES = "takes minutes; tests/squeezenet/test_compress.py compresses a small net"
BENCHMARK = "takes a quarter of an hour; tests/test_bench.py tests its parts"
PAGES_DOWNLOAD = "downloads; tests/squeezenet/test_web.py writes such pages"
CHANGES = (
    Change(
        "README.md",
        "python3 -m venv .venv && . .venv/bin/activate && "
        'pip install -c constraints.txt -e ".[report]" && ',
        "",
        INSTALLS,
    ),
    Change(
        "README.md",
        'pip install -c constraints.txt -e ".[test]" && python -m pytest -q -n 2',
        "",
        "is the test suite, of which this test is a part",
    ),
    Change(
        "README.md",
        'load_pretrained("1.1")',
        'load_pretrained("1.1", weights="squeezenet_v1.1.caffemodel")',
        "downloads; tests/squeezenet/test_weights.py does that",
    ),
    Change(
        "README.md",
        "caffe2torch parity squeezenet_v1.N.caffemodel --images imagenet_sample/images "
        "--reference imagenet_sample_pool10.npz",
        "",
        RECORDS,
    ),
    Change(
        "docs/outputs.md",
        "caffe2torch compress squeezenet_v1.0.caffemodel small.net --calibrate ants_bees/train",
        "",
        COMPRESSES,
    ),
    Change(
        "docs/outputs.md",
        "caffe2torch demo --web --out demo\n"
        "squeezenet export --weights squeezenet_v1.1.caffemodel "
        "--synset-words imagenet_sample/synset_words.txt page.html",
        "",
        PAGES_DOWNLOAD,
    ),
    Change(
        "docs/install.md",
        'load_pretrained("1.1", "squeezenet_v1.1.caffemodel").save_pretrained("folder")\n'
        'net = SqueezeNet.from_pretrained("folder")',
        "SqueezeNet.from_pretrained",
        "needs an extra; tests/squeezenet/test_hub.py does that where it is installed",
    ),
    Change(
        "CONTRIBUTING.md",
        "python3 -m venv .venv && . .venv/bin/activate\n"
        'pip install -c constraints.txt -e ".[dev]"\npre-commit install\n',
        "",
        INSTALLS,
    ),
    Change(
        "CONTRIBUTING.md",
        "ruff check . && ruff format --check .\nmypy && mypy --config-file tests/mypy.ini\n"
        'python -m pytest -q -n 2 -m "not slow"\n',
        "",
        "is what .ci/run does, of which this test is a part",
    ),
    Change(
        "docs/performance.md",
        "python tools/bench.py --out docs --mnn-python mnn/bin/python "
        "--torchvision-python torchvision/bin/python",
        "",
        BENCHMARK,
    ),
    Change(
        "docs/performance.md",
        "--json gpu.json",
        "--json gpu.json --device cpu --seconds 1 --batch-size 1",
        "takes minutes on a GPU",
    ),
    Change(
        "docs/deep_compression.md",
        "caffe2torch parity compressed_SqueezeNet.net --prototxt SqueezeNet_deploy.prototxt "
        "--images imagenet_sample --reference imagenet_sample_pool10.npz",
        "",
        RECORDS,
    ),
    Change(
        "docs/deep_compression.md",
        "caffe2torch compress squeezenet_v1.0.caffemodel small.net --calibrate ants_bees/train "
        "--data imagenet_sample/images --val-list imagenet_sample/val_list.txt",
        "",
        COMPRESSES,
    ),
    Change(
        "docs/install.md",
        "python3 -m venv .venv && . .venv/bin/activate\npip install -c constraints.txt -e .\n",
        "",
        INSTALLS,
    ),
    Change("docs/install.md", "pip install build\npython -m build\n", "", INSTALLS),
    Change(
        "docs/opencv.md",
        "python tools/compat.py opencv-4 opencv-5",
        "",
        "installs two versions of OpenCV; tests/test_compat_tool.py tests the tool",
    ),
    Change(
        "docs/parity.md",
        "caffe2torch parity DIR/net.caffemodel --prototxt DIR/net.prototxt "
        "--inputs DIR/inputs.npz --reference DIR/reference.npz",
        "",
        "is a form to fill in; tests/test_bisect.py runs what the command prints",
    ),
    Change(
        "docs/training.md",
        '"train", 32), (caffe_pb2.TEST, "val", 51)',
        '"train", 4), (caffe_pb2.TEST, "val", 4)',
        "takes a minute",
    ),
    Change(
        "docs/imagenet.md",
        "--nproc-per-node 8 -m squeezenet train --data imagenet",
        "--nproc-per-node 1 -m squeezenet train --data imagenet",
        "takes eight GPUs; the command for eight runs as two processes",
    ),
    Change(
        "docs/imagenet.md",
        "squeezenet train ",
        "squeezenet train --device cpu --threads 1 --max-iter 1 ",
        "takes GPUs and hours",
    ),
    Change(
        "docs/imagenet.md",
        "--nnodes 8 --nproc-per-node 8",
        "--nnodes 1 --nproc-per-node 1",
        "takes eight machines",
    ),
    Change("docs/imagenet.md", "--nproc-per-node 8", "--nproc-per-node 2", "takes eight GPUs"),
    Change("docs/imagenet.md", "HOST:29400", "localhost:0", "takes eight machines"),
    Change("docs/imagenet.md", "--max-iter 21250 ", "", "takes minutes on 64 GPUs"),
    Change("docs/imagenet.md", "--epochs 5 --batch-size 512", "--batch-size 4", "takes GPUs"),
    Change("docs/imagenet.md", "--batch-size 512", "--batch-size 4", "takes GPUs"),
    Change("docs/imagenet.md", "--batch-size 4096", "--batch-size 4", "takes GPUs"),
    Change("docs/imagenet.md", "files-{000000..000140}", "files-{000000..000000}", "is for 140 GB"),
    Change("docs/imagenet.md", "--workers 8 'im", "--workers 2 'im", "is for more cores"),
    Change("docs/imagenet.md", "--workers 16", "--workers 1", "is for more cores"),
    Change("docs/training.md", "max_iter: 62", "max_iter: 2", "takes a minute"),
    Change("docs/training.md", "insects_iter_62", "insects_iter_2", "takes a minute"),
    Change(
        "docs/training-speed.md", "--seconds 5", "--seconds 0.1 --batch-size 8", "takes minutes"
    ),
)
SLOW = {
    "README.md",
    "docs/faq.md",
    "docs/finetuning.md",
    "docs/imagenet.md",
    "docs/outputs.md",
    "docs/training-speed.md",
    "docs/training.md",
}
"""Pages whose commands take more than 20 s together on two cores."""
PLACEHOLDERS = {"COMMAND"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if name_of(page) in SLOW else [])
        for page in PAGES
    ],
    ids=name_of,
)
def test_commands_run(page: Path, world: Path, tmp_path: Path) -> None:
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for block in blocks(page):
        run(block, changed(name_of(page), block.text), tmp_path)


def changed(page: str, text: str) -> str:
    for change in CHANGES:
        if change.page == page:
            text = text.replace(change.part, change.instead)
    return text


def run(block: Block, text: str, folder: Path) -> None:
    if block.file:
        (folder / block.file).unlink(missing_ok=True)
        (folder / block.file).write_text(text)
        return
    if block.language == "python":
        (folder / "block.py").write_text(text)
        command = [sys.executable, "block.py"]
    elif block.language == SHELL and text.strip():
        command = ["bash", "-euo", "pipefail", "-c", text]
    else:
        return
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MODELS": str(folder / "MODELS"),
        "DATA": str(folder / "DATA"),
        "PYTHONWARNINGS": "",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{block.where}:\n{text}\n{done.stdout}"


@pytest.mark.parametrize("change", [c for c in CHANGES if not c.instead], ids=lambda c: c.part)
def test_commands_that_do_not_run_parse(change: Change) -> None:
    for program, *words in commands(change.part):
        if program in MAINS:
            command = MAINS[program].get_command(click.Context(MAINS[program]), words[0])
            assert command is not None
            command.make_context(words[0], words[1:])


def test_every_change_is_in_its_page() -> None:
    for change in CHANGES:
        texts = [block.text for block in blocks(ROOT / change.page)]
        assert any(change.part in text for text in texts), change
        assert change.reason
    assert {name_of(page) for page in PAGES} >= SLOW


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_say_what_they_are(page: Path) -> None:
    found = blocks(page)
    for index, block in enumerate(found):
        assert block.language in LANGUAGES, f"{block.where}: a fence needs a language"
        if block.file:
            later = [other.text for other in found[index + 1 :]]
            assert any(Path(block.file).stem in text for text in later), f"{block.where}: unused"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_imports_are_of_public_names(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            assert not re.search(r"^\s*(from|import) .*\b_[a-z]", block.text, re.M), block.where


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    """Those that run, those that do not, and those that are mentioned."""
    texts = [block.text for block in blocks(page)] + inline_code(page)
    for words in (words for text in texts for words in commands(text)):
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        given.discard("--help")
        assert given <= known_options(words), f"{name_of(page)}: {words}"


def known_options(words: list[str]) -> set[str]:
    """The options of the command; fails if there is no such command."""
    if words[0] == "python":
        return set(re.findall(r"--[a-z][\w-]*", (ROOT / words[1]).read_text()))
    command: click.Command = MAINS[words[0]]
    if len(words) > 1 and not words[1].startswith("-") and words[1] not in PLACEHOLDERS:
        found = MAINS[words[0]].get_command(click.Context(command), words[1])
        assert found is not None, words
        # Of a command of another package this imports it.
        command = found.make_context(words[1], [], resilient_parsing=True).command
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    folders = "docs|models|proto|tests|tools|caffe2torch|squeezenet"
    for name in inline_code(page):
        if re.fullmatch(rf"({folders})/[\w./-]+", name):
            assert (ROOT / name).exists(), f"{name_of(page)}: {name}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in links(index)}
    assert listed >= {page for page in PAGES if page.parent == index.parent} - {index}


@pytest.mark.slow
def test_the_layer_table_is_current() -> None:
    tool = ROOT / "tools" / "support_table.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, "run python tools/support_table.py" + done.stdout + done.stderr


def test_what_counts_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doc_pages.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "Run `caffe2torch convert a b.pt`, not `caffe2torch parity --bisect` nor\n"
        "`caffe2torch convert MODEL OUTPUT`.\n\n"
        "    caffe2torch demo && squeezenet info \\\n      --version 1.1\n\n"
        "```python\n# own.py\nimport caffe2torch\n```\n"
    )
    found = blocks(page)
    assert [(block.where, block.language) for block in found] == [
        ("page.md:1", SHELL),
        ("page.md:4", SHELL),
        ("page.md:7", "python"),
    ]
    assert [commands(block.text) for block in found] == [
        [["caffe2torch", "convert", "a", "b.pt"]],
        [["caffe2torch", "demo"], ["squeezenet", "info", "--version", "1.1"]],
        [],
    ]
    assert [block.file for block in found] == [None, None, "own.py"]
    assert commands("run: >\n  caffe2torch parity a\n  --images b\n") == [
        ["caffe2torch", "parity", "a", "--images", "b"]
    ]
