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
