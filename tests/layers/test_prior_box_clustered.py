from __future__ import annotations

import pytest
from harness import check_layer
from refusals import refusal
from test_prior_box import priors, zeros

from caffe2torch.errors import NetError


def clustered(fields: str) -> str:
    return f'type: "PriorBoxClustered" prior_box_param {{ {fields} }}'


def test_a_box_for_each_width_and_height():
    variance = [0.1, 0.2, 1.5, 3]
    values = " ".join(f"variance: {v}" for v in variance)
    check_layer(
        clustered(f"width: 9.5 width: 40 height: 3 height: 6.25 clip: true step: 11 {values}"),
        zeros((1, 2, 3, 5), (1, 1, 31, 53)),
        [priors((3, 5), (31, 53), (11, 11), 0.5, [(9.5, 3), (40, 6.25)], variance, clip=True)],
        batch_inputs=zeros((2, 2, 3, 5), (2, 1, 31, 53)),
        batch_expected=[
            priors((3, 5), (31, 53), (11, 11), 0.5, [(9.5, 3), (40, 6.25)], variance, clip=True)
        ],
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("", "no width is given"),
        ("width: 5", "1 width, 0 height"),
        ("width: 5 height: 5 min_size: 5", "the layer has width and height instead"),
    ],
)
def test_refuses_what_the_fork_cannot_compute(fields, text):
    bottoms = 'bottom: "a" bottom: "b" top: "t"'
    error = refusal(f"{bottoms} {clustered(fields)}", (1, 2, 3, 5), (1, 3, 20, 30))
    assert isinstance(error, NetError)
    assert text in str(error)
