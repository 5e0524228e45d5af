from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import resolved


@pytest.mark.parametrize("shape", [(2, 3, 5), (7,), ()])
def test_the_blob_is_the_top(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(1).standard_normal(shape)
    dims = "".join(f"dim: {n} " for n in shape)
    check_layer(
        f'type: "Parameter" parameter_param {{ shape {{ {dims} }} }}', [], [value], blobs=[value]
    )


def test_it_must_be_given() -> None:
    layer = resolved('type: "Parameter" top: "w" parameter_param { shape { dim: 3 } }')
    (spec,) = layer.blob_specs([])
    assert not spec.given


def test_a_fork_fills_it() -> None:
    filler = "blob_filler { type: 'constant' value: 7 }"
    layer = resolved(
        f'type: "Parameter" top: "w" parameter_param {{ shape {{ dim: 3 }} {filler} }}'
    )
    (spec,) = layer.blob_specs([])
    assert (spec.filler.value, spec.given) == (7, True)
