"""Which pixels a resized map takes, in whole numbers."""

from __future__ import annotations


def nearest_places(size: int, new_size: int) -> list[int]:
    """The pixel of ``size`` that each of ``new_size`` takes: the one at its corner."""
    return [min(int(i / (new_size / size)), size - 1) for i in range(new_size)]


def corner_places(size: int, new_size: int) -> tuple[list[int], list[float]]:
    """The pixels before i * size / new_size, and the weights of those after them."""
    places = [i * size // new_size for i in range(new_size)]
    weights = [i * size % new_size / new_size for i in range(new_size)]
    return places, weights


def extrapolating_places(size: int, new_size: int) -> tuple[list[int], list[float]]:
    """The pixels before (i + 1) * size / new_size - 1, and the weights of those after.

    Before the first pixel its weight is more than 1 and that of the second negative.
    """
    shifts = [(i + 1) * size - new_size for i in range(new_size)]
    places = [max(shift // new_size, 0) for shift in shifts]
    pairs = zip(shifts, places, strict=True)
    last = size - 1
    weights = [0.0 if p >= last else shift / new_size - p for shift, p in pairs]
    return places, weights
