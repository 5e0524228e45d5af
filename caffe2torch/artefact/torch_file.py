"""Files of ``torch.save``, from anyone, read without running code that they could carry."""

from __future__ import annotations

import os
import warnings
from typing import Any

from caffe2torch.errors import ReadError
from caffe2torch.io.archive import check_archive


def load_torch(path: str | os.PathLike[str], device: Any = "cpu", *, mmap: bool = False) -> Any:
    """What is in the file: tensors and plain values only. Raises ReadError for anything else.

    Arguments are those of ``torch.load``.
    """
    import torch

    check_archive(path, 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of what a damaged file says about itself.
            return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except Exception as error:
        # The unpickler runs whatever program the file is, and so may raise anything.
        cause = str(error).split("\n", maxsplit=1)[0][:200]
        raise ReadError(f"{path}: PyTorch cannot read the file ({cause})") from None
