"""The random numbers of the C library of Linux."""

from __future__ import annotations


def first_rand(count: int) -> list[int]:
    """The first ``count`` numbers of ``rand()`` after ``srand(1)`` in glibc."""
    state = [1]
    while len(state) < 31:
        state.append(16807 * state[-1] % 2147483647)
    state += state[:3]
    while len(state) < 344 + count:
        state.append((state[-3] + state[-31]) % 2**32)
    return [number >> 1 for number in state[344:]]


def bilinear_sketch(
    first: int, second: int, size: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Where each product of two channels is added, and its sign (first, second)."""
    numbers = iter(first_rand(2 * (first + second)))
    rows, row_signs, columns, column_signs = (
        [next(numbers) for _ in range(count)]
        for count in (first, first, second, second)
    )
    places = [[(r % size + c % size) % size for c in columns] for r in rows]
    signs = [[1.0 if r % 2 == c % 2 else -1.0 for c in column_signs] for r in row_signs]
    return places, signs
