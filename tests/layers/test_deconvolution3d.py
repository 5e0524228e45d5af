from __future__ import annotations

import numpy as np
from harness import check_layer
from spatial_oracles import deconvolution


def test_time_has_a_size_of_its_own() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 2, 4, 5)), rng.standard_normal((3, 4, 2, 3, 3))
    bias = rng.standard_normal(4)
    y = deconvolution(x, weight, bias, (2, 1, 1), (0, 1, 1), (1, 1, 1))
    fields = "num_output: 4 kernel_size: 3 kernel_depth: 2 temporal_stride: 2 pad: 1"
    check_layer(
        f'type: "Deconvolution3D" convolution_param {{ {fields} }}', [x], [y], [weight, bias]
    )
