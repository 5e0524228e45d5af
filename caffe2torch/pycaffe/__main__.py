"""``python -m caffe2torch.pycaffe script.py ARGS``: run a program that says ``import caffe``."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, TracebackType

from caffe2torch.pycaffe import alias

USAGE = """\
usage: python -m caffe2torch.pycaffe SCRIPT [ARGS]
       python -m caffe2torch.pycaffe -m MODULE [ARGS]
       python -m caffe2torch.pycaffe -c CODE [ARGS]

Runs a Python program as python itself does, but that `import caffe` gives caffe2torch's
implementation of Caffe's Python interface. The program is not changed."""


def main(arguments: list[str]) -> int:
    """Run the program that ``arguments`` name; 2 if they name none."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    first, *rest = arguments
    problem, text = "", b""
    if first.startswith("-") and first not in ("-m", "-c"):
        problem = f"there is no option {first}"
    elif first.startswith("-"):
        problem = "" if rest else f"{first} needs an argument"
    else:
        try:
            text = Path(first).read_bytes()
        except OSError as error:
            problem = f"can't open the program {first!r}: {error.strerror}"
    if problem:
        print(f"{problem}\n{USAGE}", file=sys.stderr)
        return 2
    alias.install()
    sys.excepthook = _show
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        _put_on_path("")
        _run(rest[0], "<string>", {})
    else:
        sys.argv = arguments
        _put_on_path(os.path.dirname(os.path.realpath(first)))
        path = os.path.abspath(first)
        _run(text, path, {"__file__": path})
    return 0


def _put_on_path(folder: str) -> None:
    """Put the program's folder where python has put the current one."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder


def _run(text: str | bytes, source: str, names: dict[str, str]) -> None:
    """Execute a program as ``__main__``, which threads and pickle find after its end as well."""
    program = ModuleType("__main__")
    program.__dict__.update(names)
    sys.modules["__main__"] = program
    # This file's own `from __future__` is not the program's.
    exec(compile(text, source, "exec", dont_inherit=True), program.__dict__)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error as python does, from the program's own first frame on."""
    ours = (__file__, "<frozen runpy>", runpy.__file__)
    while trace and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
