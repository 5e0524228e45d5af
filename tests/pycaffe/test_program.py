"""``python -m caffe2torch.pycaffe``: a program runs as python itself runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caffe2torch.pycaffe.__main__ import main

SHOW = """\
import sys, json, caffe, caffe.io, caffe.proto.caffe_pb2, caffe.draw, caffe.coord_map
import caffe.net_spec, caffe.classifier, caffe.detector, caffe.pycaffe, caffe._caffe
import caffe2torch.pycaffe as ours, caffe2torch.pycaffe.io
from caffe.proto import caffe_pb2
from caffe.pycaffe import Net
from caffe import layers as L, params as P
assert caffe is ours and caffe.io is ours.io and Net is caffe._caffe.Net is ours.Net
assert caffe.proto.caffe_pb2 is caffe_pb2 is ours.proto.caffe_pb2
assert L is ours.net_spec.layers
assert caffe._caffe.Blob is ours.blob.Blob
def f(x: int): ...
assert f.__annotations__ == {"x": int}
print(json.dumps([__name__, globals().get("__file__"), sys.argv, sys.path[0]]))
"""


def run(*arguments: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "caffe2torch.pycaffe", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_program_sees_itself_as_under_python(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub" / "show.py"
    script.write_text(SHOW)
    place = str(script)
    expected = {
        ("sub/show.py", "a", "-b"): [
            "__main__",
            place,
            ["sub/show.py", "a", "-b"],
            str(script.parent),
        ],
        ("-m", "sub.show", "a"): ["__main__", place, [place, "a"], str(tmp_path)],
        ("-c", SHOW, "a"): ["__main__", None, ["-c", "a"], ""],
    }
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda arguments: run(*arguments, folder=tmp_path), expected)
        assert [json.loads(one.stdout) for one in done] == list(expected.values())


def test_errors_and_exit_codes_are_the_programs_own(tmp_path) -> None:
    script = tmp_path / "bad.py"
    script.write_text("def f():\n    import caffe\n    caffe.NetSpec().x\n\n\nf()\n")
    shown = run("bad.py", folder=tmp_path, code=1).stderr.splitlines()
    assert shown[:2] == [
        "Traceback (most recent call last):",
        f'  File "{script}", line 6, in <module>',
    ]
    assert shown[-1].endswith("no 'x' was assigned; there are: none\"")
    script.write_text("def f(:\n")
    assert run("bad.py", folder=tmp_path, code=1).stderr.startswith(f'  File "{script}", line 1\n')
    run("-c", "raise SystemExit(7)", folder=tmp_path, code=7)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "usage: "),
        (["none.py"], "can't open the program 'none.py': No such file or directory"),
        (["-m"], "-m needs an argument"),
        (["--fast"], "there is no option --fast"),
    ],
)
def test_what_cannot_be_run_is_told(arguments, text, capsys) -> None:
    assert main(arguments) == 2
    assert text in capsys.readouterr().err


def test_a_layers_own_module_imports_caffe_in_any_program(tmp_path) -> None:
    (tmp_path / "own.py").write_text(
        "import caffe\n\n\n"
        "class Twice(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data\n"
    )
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "y" type: "Python" bottom: "x" top: "y"\n'
        '  python_param { module: "own" layer: "Twice" } }\n'
    )
    (tmp_path / "by_hand.py").write_text(
        "import numpy as np\n"
        "import caffe2torch.pycaffe as caffe\n"
        'net = caffe.Net("net.prototxt", caffe.TEST)\n'
        'print(net.forward(x=np.ones((2, 3)))["y"].sum())\n'
    )
    done = subprocess.run(
        [sys.executable, "by_hand.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "12.0\n", done.stderr


def test_processes_of_a_program_import_caffe(tmp_path) -> None:
    (tmp_path / "worker.py").write_text(
        "import caffe.io\n\n\ndef work(queue): queue.put(caffe.io.__name__ + caffe.__version__)\n"
    )
    (tmp_path / "main.py").write_text(
        "import multiprocessing, worker\n"
        'if __name__ == "__main__":\n'
        '    context = multiprocessing.get_context("spawn")\n'
        "    queue = context.Queue()\n"
        "    process = context.Process(target=worker.work, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get())\n"
        "    process.join()\n"
    )
    assert run("main.py", folder=tmp_path).stdout == "caffe2torch.pycaffe.io1.0.0\n"
