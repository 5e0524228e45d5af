"""The weights of MaskResize."""

from __future__ import annotations


def mask_weights(size: int, new_size: int) -> list[list[float]]:
    """What each of ``size`` pixels weighs in each new one, linearly between corners.

    A place more than half a pixel behind the last one has none.
    """
    rows = []
    for p in range(new_size):
        place = p * (size / new_size)
        row = [0.0] * size
        if place <= size - 0.5:
            at = min(int(place), size - 1)
            part = place - at if at < size - 1 else 0.0
            row[at] += 1 - part
            row[min(at + 1, size - 1)] += part
        rows.append(row)
    return rows
