"""SqueezeNet's published macro-architectures as data, shared by the model and its deploy net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caffe2torch.errors import NetError

FIRST_FIRE = 2
"""The paper counts conv1 as layer 1, so the fire modules are numbered from 2."""

EXPANSION = 4
"""Output channels of each of a fire's two expand convolutions for one squeeze channel."""

BYPASSES: tuple[str | None, ...] = (None, "simple", "complex")


@dataclass(frozen=True)
class Architecture:
    """What differs between the versions of SqueezeNet.

    ``squeeze`` holds the squeeze channels of fire2, fire3, ...; ``pools`` the numbers of the
    fires that a 3x3 maximum pooling with stride 2 follows. conv1 (stride 2, no padding) is
    always followed by such a pooling.
    """

    conv1_channels: int
    conv1_kernel: int
    pools: tuple[int, ...]
    conv10_pad: int
    squeeze: tuple[int, ...] = (16, 16, 32, 32, 48, 48, 64, 64)


ARCHITECTURES: Mapping[str, Architecture] = {
    "1.0": Architecture(conv1_channels=96, conv1_kernel=7, pools=(4, 8), conv10_pad=1),
    "1.1": Architecture(conv1_channels=64, conv1_kernel=3, pools=(3, 5), conv10_pad=0),
}


def find_architecture(version: str) -> Architecture:
    """The architecture of a version. Raises NetError for one that was never published."""
    if version not in ARCHITECTURES:
        known = " or ".join(repr(name) for name in ARCHITECTURES)
        raise NetError(f"there is no SqueezeNet version {version!r}: choose {known}")
    return ARCHITECTURES[version]


def bypass_kind(number: int, bypass: str | None) -> str | None:
    """How the input of fire ``number`` goes round it: None, "identity" or "convolution".

    A fire with an odd number keeps the number of channels, so its input can be added to its
    output as it is; the others need a 1x1 convolution, which only the complex bypass has.
    """
    if bypass not in BYPASSES:
        raise NetError(f"there is no bypass {bypass!r}: choose None, 'simple' or 'complex'")
    if number % 2:
        return "identity" if bypass else None
    return "convolution" if bypass == "complex" else None
