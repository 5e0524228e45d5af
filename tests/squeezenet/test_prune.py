"""Pruning against what it claims: least error for one removal, least squares for the rest."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from squeezenet.prune import as_matrix, output_places, prune, sample_patches


def problem(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """A moment of correlated inputs whose last is 1, and a matrix."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(200, columns, generator=rng) @ torch.randn(columns, columns, generator=rng)
    x[:, -1] = 1
    moment = x.T @ x / len(x) + 0.01 * torch.eye(columns)
    return moment, torch.randn(rows, columns, generator=rng)


def best_under(mask: Tensor, moment: Tensor, target: Tensor) -> Tensor:
    """Row by row, the least-squares solution on the mask's support, in double precision."""
    out = torch.zeros_like(target, dtype=torch.float64)
    for row, own in enumerate(mask):
        block = moment.double()[own][:, own]
        out[row, own] = torch.linalg.solve(block, (moment.double() @ target[row].double())[own])
    return out


def error(matrix: Tensor, moment: Tensor, target: Tensor) -> float:
    change = matrix.double() - target.double()
    return float(torch.trace(change @ moment.double() @ change.T))


def test_the_first_removal_is_the_best_of_all() -> None:
    moment, target = problem(3, 6, seed=0)
    (matrix,) = prune(moment, target, [14])
    errors = {}
    for row, column in itertools.product(range(3), range(5)):
        mask = torch.ones(3, 6, dtype=torch.bool)
        mask[row, column] = False
        errors[row, column] = error(best_under(mask, moment, target), moment, target)
    place = min(errors, key=lambda key: errors[key])
    assert (matrix == 0).nonzero().tolist() == [list(place)]
    assert error(matrix, moment, target) == pytest.approx(errors[place], rel=1e-3)


def test_what_stays_is_the_least_squares_solution() -> None:
    moment, target = problem(5, 12, seed=1)
    counts = (40, 23, 9)
    for count, matrix in zip(counts, prune(moment, target, counts), strict=True):
        mask = matrix != 0
        assert int(mask[:, :-1].sum()) == count
        assert mask[:, -1].all()
        expected = best_under(mask, moment, target)
        torch.testing.assert_close(matrix.double(), expected, rtol=1e-3, atol=1e-4)


def test_uncorrelated_inputs_lose_the_smallest_weights_unchanged() -> None:
    target = torch.tensor([[3.0, -0.5, 1.0, 7.0], [0.25, 2.0, -4.0, -7.0]])
    expected = [[3.0, 0, 1.0, 7.0], [0, 2.0, -4.0, -7.0]]
    (matrix,) = prune(torch.eye(4), target, [4])
    torch.testing.assert_close(matrix, torch.tensor(expected))


def test_rows_share_the_weights_by_what_they_need() -> None:
    moment, target = problem(2, 20, seed=2)
    target[0] *= 0.1
    *_, matrix = prune(moment, target, [25, 16])
    small, large = (matrix[:, :-1] != 0).sum(1).tolist()
    assert small + large == 16
    assert large > small + 5


def test_a_row_may_lose_everything() -> None:
    moment, target = problem(2, 6, seed=3)
    target[0] *= 1e-4
    *_, matrix = prune(moment, target, [5])
    assert (matrix[0, :-1] == 0).all()
    assert matrix[0, -1] != 0


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (1, 1, 1), (3, 1, 1), (7, 2, 0)]
)
def test_patches_times_the_matrix_are_the_convolution(
    kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, kernel, stride=stride, padding=padding)
    x = torch.randn(2, 3, 11, 9)
    expected = conv(x).permute(0, 2, 3, 1).reshape(-1, 5)
    assert output_places(conv, x) == len(expected)
    places = torch.randperm(len(expected))[:7]
    actual = sample_patches(conv, x, places) @ as_matrix(conv).T
    torch.testing.assert_close(actual, expected[places].detach(), rtol=0, atol=1e-5)
