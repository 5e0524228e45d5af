from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


def ranked(vector: np.ndarray, top_k: int) -> np.ndarray:
    """Rows of index and value, by falling value and then by falling index."""
    pairs = sorted(((v, i) for i, v in enumerate(vector)), reverse=True)
    return np.array([(i, v) for v, i in pairs[:top_k]]).T


def along(x: np.ndarray, axis: int, top_k: int, values: bool) -> np.ndarray:
    return np.apply_along_axis(lambda v: ranked(v, top_k)[int(values)], axis, x)


def whole(x: np.ndarray, top_k: int, values: bool) -> np.ndarray:
    y = np.array([ranked(item.ravel(), top_k)[: 2 if values else 1] for item in x])
    return y.reshape(y.shape + (1,) * (x.ndim - 3))


def blob(shape: tuple[int, ...], ties: bool, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if ties:
        return rng.integers(-1, 2, shape).astype(np.float64)
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axis(ties: bool, values: bool, top_k: int, axis: int) -> None:
    x = blob((4, 5, 3, 7), ties)
    fields = f"axis: {axis} top_k: {top_k} out_max_val: {str(values).lower()}"
    check_layer(f'type: "ArgMax" argmax_param {{ {fields} }}', [x], [along(x, axis, top_k, values)])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("top_k", [1, 4])
@pytest.mark.parametrize("rest", [(7,), (3, 5), (3, 5, 7), (2, 3, 5, 7)])
def test_whole_items(ties: bool, values: bool, top_k: int, rest: tuple[int, ...]) -> None:
    small, large = blob((2, *rest), ties), blob((4, *rest), ties, seed=2)
    fields = f"top_k: {top_k} out_max_val: {str(values).lower()}"
    check_layer(
        f'type: "ArgMax" argmax_param {{ {fields} }}',
        [small],
        [whole(small, top_k, values)],
        batch_inputs=[large],
        batch_expected=[whole(large, top_k, values)],
    )


def test_a_blob_of_one_axis_has_items_of_one_entry() -> None:
    check_layer('type: "ArgMax"', [np.array([3.0, -1.0])], [np.zeros((2, 1, 1))])


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("top_k: 0", (2, 3), "top_k: must be at least 1"),
        ("top_k: 16", (2, 3, 5), "16 is more than the 15 entries"),
        ("top_k: 4 axis: 1", (2, 3, 5), "4 is more than the 3 entries"),
        ("axis: 3", (2, 3, 5), "argmax_param.axis: axis 3 is out of range"),
        ("", (), "no axes"),
    ],
)
def test_refuses(param: str, shape: tuple[int, ...], message: str) -> None:
    error = refusal(f'type: "ArgMax" bottom: "x" top: "y" argmax_param {{ {param} }}', shape)
    assert isinstance(error, NetError)
    assert message in str(error)
