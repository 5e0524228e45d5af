"""Many processes at once with one destination or one cold cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from crashing.cases import NEW, OLD, Convert, Download, LostError, Pair, finish


def cold_loads(case: Download, count: int) -> int:
    """Let ``count`` processes load with an empty cache; return the number of downloads.

    Raises LostError unless each of them gets the published weights.
    """
    _empty(case)
    answers = [case.root / f"answer{number}" for number in range(count)]
    for process in [case.start(answer) for answer in answers]:
        finish(process, case.log)
    _check_answers(case, answers)
    return case.server.requests


def killed_holder(case: Download, count: int) -> int:
    """As ``cold_loads``, but the process that downloads is killed while the others wait."""
    _empty(case)
    holder = case.start()
    if not case.server.sending.wait(60):
        raise LostError("no download began")
    answers = [case.root / f"answer{number}" for number in range(count)]
    others = [case.start(answer) for answer in answers]
    holder.kill()
    holder.join()
    if holder.exitcode == 0:
        raise LostError("the download was over before the kill; let the server take longer")
    for process in others:
        finish(process, case.log)
    _check_answers(case, answers)
    return case.server.requests


def same_destination(case: Convert | Pair, count: int) -> str:
    """Let ``count`` processes write two different nets to one place; return which is there."""
    case.reset()
    processes = [case.start(number % 2) for number in range(count)]
    for process in processes:
        finish(process, case.log)
    found = case.found()
    more = {path.name for path in case.folder.iterdir()} - case.keeps
    if found not in (OLD, NEW) or more:
        raise LostError(f"{case.name}: found {found}, left over {sorted(more)}")
    return found


def _empty(case: Download) -> None:
    shutil.rmtree(case.folder, ignore_errors=True)
    case.server.requests = 0


def _check_answers(case: Download, answers: list[Path]) -> None:
    case.found()
    got = {path.read_text() for path in answers}
    for path in answers:
        path.unlink()
    if len(got) != 1:
        raise LostError(f"{len(got)} different nets were loaded")
    more = {path.name for path in case.folder.iterdir()} - case.keeps
    if more:
        raise LostError(f"left over: {sorted(more)}")
