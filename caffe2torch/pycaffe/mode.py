"""Where nets run and what their random numbers follow: Caffe's global state (common.cpp)."""

from __future__ import annotations

import random

import torch

_seeds = random.Random()
_device = torch.device("cpu")
_number = 0


def device() -> torch.device:
    """Where layers compute."""
    return _device


def set_mode_cpu() -> None:
    """Run nets on the CPU."""
    global _device
    _device = torch.device("cpu")


def set_mode_gpu() -> None:
    """Run nets on the GPU that ``set_device`` chose; on the CPU where there is none."""
    global _device
    if torch.cuda.is_available():
        _device = torch.device("cuda", _number)


def set_device(number: int) -> None:
    """Choose the GPU. Without one this has no effect, as nets run on the CPU then."""
    global _device, _number
    if torch.cuda.is_available():
        if not 0 <= number < torch.cuda.device_count():
            raise RuntimeError(f"there is no GPU {number}; there are {torch.cuda.device_count()}")
        _number = number
        if _device.type == "cuda":
            _device = torch.device("cuda", _number)


def set_random_seed(seed: int) -> None:
    """Have fillers, Dropout and data layers of nets made from now on draw the same numbers.

    They are torch's and numpy's numbers, not Caffe's.
    """
    if not isinstance(seed, int):
        raise TypeError(f"set_random_seed takes a whole number, not {seed!r}")
    if not 0 <= seed < 2**32:
        raise OverflowError(f"the seed {seed} is not in the range of an unsigned int")
    _seeds.seed(seed)
    torch.manual_seed(seed)


def next_seed() -> int:
    """The seed of the next net."""
    return _seeds.randrange(2**31)
