"""The weights of cubic interpolation between pixels (OpenPose)."""

from __future__ import annotations


def cubic_weights(size: int, new_size: int, margin: int) -> list[list[float]]:
    """What each of ``size`` pixels weighs in each new one: Catmull-Rom's cubic.

    ``margin`` pixels at either end stay out.
    """
    inner = size - 2 * margin
    rows = []
    for p in range(new_size):
        place = (p - (new_size / inner / 2 - 0.5)) * (inner / new_size)
        at = max(int(place + 1e-5), 0)
        d = place - at
        after = min(at + 1, inner - 1)
        row = [0.0] * size
        row[margin + max(at - 1, 0)] += ((-0.5 * d + 1) * d - 0.5) * d
        row[margin + at] += (1.5 * d - 2.5) * d * d + 1
        row[margin + after] += ((-1.5 * d + 2) * d + 0.5) * d
        row[margin + min(after + 1, inner - 1)] += (0.5 * d - 0.5) * d * d
        rows.append(row)
    return rows
