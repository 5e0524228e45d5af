"""Where the largest values are."""

from __future__ import annotations

import torch
from torch import Tensor


def arg_max(
    x: Tensor, dim: int | None = None, top_k: int = 1, out_max_val: bool = False
) -> Tensor:
    """The indices of the ``top_k`` largest, or with ``out_max_val`` the values.

    Without ``dim`` each item of the batch is one vector: the top is (N, 1, top_k, ..),
    or with ``out_max_val`` (N, 2, top_k, ..) of indices and values.
    """
    if dim is not None:
        values, indices = largest(x, dim, top_k)
        return values if out_max_val else indices
    values, indices = largest(x.reshape(len(x), -1), 1, top_k)
    y = torch.stack([indices, values] if out_max_val else [indices], 1)
    return y.reshape(y.shape + (1,) * (x.ndim - 3))


def largest(x: Tensor, dim: int, top_k: int) -> tuple[Tensor, Tensor]:
    """Values and indices, largest first; of equal ones the last comes first."""
    backwards = x.flip(dim)
    if top_k == 1:
        values, places = backwards.max(dim, keepdim=True)
    else:
        values, places = backwards.sort(stable=True, dim=dim, descending=True)
        values, places = (t.narrow(dim, 0, top_k) for t in (values, places))
    return values, (x.shape[dim] - 1 - places).to(x.dtype)


def best_classes(*scores: Tensor) -> Tensor:
    """The best class of each of the K ``scores`` (N, C, ..) as (1, 1, N, K).

    It is 0 where no score is above 0.
    """
    best = [x.clamp(min=0).flatten(1).argmax(1) for x in scores]
    return torch.stack(best, 1).to(scores[0].dtype)[None, None]
