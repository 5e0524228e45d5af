"""When a blob of a weight file fits a layer's blob."""

from __future__ import annotations

from caffe2torch.graph import Shape


def fits(file_shape: Shape, legacy: bool, target: Shape) -> bool:
    """Whether Caffe accepts a blob of ``file_shape`` for one of shape ``target``.

    A legacy shape is (num, channels, height, width): it aligns with the target's last axes,
    so that (1, 1, 1, N) is a bias (N) and (1, 1, M, N) an InnerProduct weight (M, N). Any
    other shape must equal the target (Caffe: Blob::ShapeEquals).
    """
    if not legacy:
        return file_shape == target
    return len(target) <= 4 and file_shape == (1,) * (4 - len(target)) + target
