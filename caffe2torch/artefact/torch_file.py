"""Files of ``torch.save``, from anyone, read without running code that they could carry.

``weights_only`` keeps a pickle from running code, but not from taking all memory (a
``bytearray`` of any length) or all time (a tuple of tuples of tuples as a key). So pickles are
looked over before torch runs them: what they may call, and how much work they can be.
"""

from __future__ import annotations

import os
import pickletools
import re
import warnings
import zipfile
from typing import Any

from caffe2torch.errors import ReadError, first_line
from caffe2torch.io.files import check_archive

_GLOBAL = re.compile(
    r"collections OrderedDict|torch._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)
_NO_PUSH = frozenset({"PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load_torch(path: str | os.PathLike[str], device: Any = "cpu", *, mmap: bool = False) -> Any:
    """What is in the file: tensors and plain values only. Raises ReadError for anything else.

    Arguments are those of ``torch.load``.
    """
    import torch

    check_archive(path, 1)
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    _check_pickle(archive.read(name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of what a damaged file says about itself.
            return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except ReadError as error:
        raise ReadError(f"{path}: {error.reason}") from None
    except Exception as error:
        # The unpickler runs whatever program the file is, and so may raise anything.
        cause = first_line(error)[:200]
        raise ReadError(f"{path}: PyTorch cannot read the file ({cause})") from None


def _check_pickle(data: bytes) -> None:
    """Raise ReadError unless ``data`` builds no more than dicts, lists, tuples and tensors."""
    check = _Check(10**6 + 10 * len(data))
    try:
        for opcode, argument, _ in pickletools.genops(data):
            check.take(opcode, argument)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReadError(f"its pickle is corrupt ({error})") from None


class _Check:
    """Follows the stack; of each object only how long it takes to hash it is kept."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[int, int] = {}

    def take(self, opcode: Any, argument: Any) -> None:
        """Follow one operation."""
        name = opcode.name
        if name == "GLOBAL" and not _GLOBAL.fullmatch(argument):
            raise ReadError(f"its pickle asks for {argument!r}, which no saved array needs")
        if name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX"):
            raise ReadError(f"its pickle has the operation {name}, which no saved array needs")
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name.endswith("PUT"):
            self.memo[argument] = self.stack[-1]
        elif name.endswith("GET"):
            self.stack.append(self.memo[argument])
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name in _TUPLES or name == "TUPLE":
            items = self._above_mark() if name == "TUPLE" else self._pop(_TUPLES[name])
            self.stack.append(1 + sum(items))
        elif name == "SETITEM":
            self._spend(self._pop(2)[:1])
        elif name == "SETITEMS":
            self._spend(self._above_mark()[::2])
        elif name == "REDUCE":
            self.stack.append(max(self._pop(2)))  # torch.Size of a tuple is hashed like it.
        else:
            before = [item.name for item in opcode.stack_before]
            if "mark" in before:
                self._above_mark()
                before = before[: before.index("mark")]
            self._pop(len(before))
            if name not in _NO_PUSH:
                self.stack += [1] * len(opcode.stack_after)

    def _pop(self, count: int) -> list[int]:
        if count > len(self.stack):
            raise IndexError("it takes more from the stack than is there")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _above_mark(self) -> list[int]:
        return self._pop(len(self.stack) - self.marks.pop())

    def _spend(self, keys: list[int]) -> None:
        self.budget -= sum(keys)
        if self.budget < 0:
            raise ReadError("its pickle has keys that no saved state has")
