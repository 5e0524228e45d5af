"""Files of ``torch.save``, from anyone, read without running code that they could carry."""

from __future__ import annotations

import os
import warnings
import zipfile
from typing import Any

from caffe2torch.artefact.pickle_check import check_pickle
from caffe2torch.errors import ReadError
from caffe2torch.io.files import check_archive


def load_torch(path: str | os.PathLike[str], device: Any = "cpu", *, mmap: bool = False) -> Any:
    """What is in the file: tensors and plain values only. Raises ReadError for anything else.

    Arguments are those of ``torch.load``.
    """
    import torch

    check_archive(path, 1)
    try:
        _check_pickles(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of what a damaged file says about itself.
            return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except ReadError as error:
        raise ReadError(f"{path}: {error.reason}") from None
    except Exception as error:
        # The unpickler runs whatever program the file is, and so may raise anything.
        cause = str(error).split("\n", maxsplit=1)[0][:200]
        raise ReadError(f"{path}: PyTorch cannot read the file ({cause})") from None


def _check_pickles(path: str | os.PathLike[str]) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                check_pickle(archive.read(name))
