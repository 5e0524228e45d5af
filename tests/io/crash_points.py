"""Kill a write at each of its system calls: ``python crash_points.py FOLDER KIND``.

Prints a JSON list with an entry for each call that a process killed itself at: what was in the
folder then, and what is there once another process has written a file of its own there, which
itself was killed at each of its calls in turn.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caffe2torch.io.atomic import atomic_group, atomic_write

OLD = {"main": "old", "part": "old part"}
NEW = {"main": "new", "part": "new part"}
CALLS = [(os, name) for name in ("open", "replace", "unlink", "fsync", "chmod", "listdir")]
CALLS += [(fcntl, "flock")]


def write_pair() -> None:
    with atomic_group() as group:
        part = group.open("part")
        main = group.open("main")
        part.write(b"new part")
        main.write(b"new")


def write_named_part() -> None:
    """A part whose name goes with its content, as the main file's own."""
    with atomic_group() as group:
        group.open("part2").write(b"new part")
        group.open("main").write(b"new")


def write_one() -> None:
    with atomic_write("main") as file:
        file.write(b"new")


def write_other() -> None:
    with atomic_write("other") as file:
        file.write(b"other")


KINDS = {"pair": write_pair, "named": write_named_part, "one": write_one}


def killed_at(call: int, work: Callable[[], None], folder: Path) -> bool:
    """Do ``work`` in a process that kills itself before that call; whether it came so far."""
    process = os.fork()
    if not process:
        os.chdir(folder)
        count = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **keywords: Any) -> Any:
                nonlocal count
                count += 1
                if count == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **keywords)

            return wrapper

        os.fsync = lambda fd: None  # Nothing is at stake but the time it takes.
        for owner, name in CALLS:
            setattr(owner, name, counted(getattr(owner, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def main(root: Path, kind: str) -> None:
    answers = []
    call, folder, second = 1, root / "folder", root / "second"
    folder.mkdir()
    while True:
        shutil.rmtree(folder)
        folder.mkdir()
        for name, content in OLD.items():
            (folder / name).write_text(content)
        if not killed_at(call, KINDS[kind], folder):
            break
        # The next writer in the folder, killed in its turn, and the one after.
        after, again = [], 1
        while True:
            shutil.rmtree(second, ignore_errors=True)
            shutil.copytree(folder, second)
            killed = killed_at(again, write_other, second)
            if killed:
                killed_at(0, write_other, second)
            after.append(contents(second))
            again += 1
            if not killed:
                break
        answers.append({"then": contents(folder), "after": after})
        call += 1
    print(json.dumps({"answers": answers, "end": contents(folder)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
