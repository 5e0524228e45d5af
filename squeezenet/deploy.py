"""SqueezeNet's published macro-architectures as data, and as the deploy prototxt of any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def deploy_prototxt(
    version: str, bypass: str | None, num_classes: int, *, size: int = 227, softmax: bool = True
) -> str:
    """The net from the blob ``data`` to ``prob``, or to the logits ``pool10``.

    Layer and blob names are those of the published files; a bypass adds ``fireN/bypass``
    (the sum) and ``fireN/bypass_conv``.
    """
    header = f'name: "SqueezeNet v{version}"\n'
    return header + "".join(_layers(version, bypass, num_classes, size, softmax))


def published_prototxts() -> dict[str, str]:
    """The nets of the published weights: every version, without bypass, for 1000 classes."""
    return {
        f"SqueezeNet v{version} with 1000 classes": deploy_prototxt(version, None, 1000)
        for version in ARCHITECTURES
    }


def _layers(
    version: str, bypass: str | None, num_classes: int, size: int, softmax: bool
) -> Iterator[str]:
    architecture = find_architecture(version)
    dims = " ".join(f"dim: {dim}" for dim in (1, 3, size, size))
    yield _layer("data", "Input", (), f"input_param {{ shape {{ {dims} }} }}")
    yield from _convolution(
        "conv1", "data", architecture.conv1_channels, architecture.conv1_kernel, stride=2
    )
    yield _pool("pool1", "conv1")
    x = "pool1"
    for number, squeeze in enumerate(architecture.squeeze, FIRST_FIRE):
        fire = f"fire{number}"
        yield from _fire(fire, x, squeeze)
        source, x = x, f"{fire}/concat"
        kind = bypass_kind(number, bypass)
        if kind == "convolution":
            name = f"{fire}/bypass_conv"
            yield from _convolution(name, source, 2 * EXPANSION * squeeze, 1, relu=False)
            source = name
        if kind:
            yield _layer(
                f"{fire}/bypass", "Eltwise", (x, source), "eltwise_param { operation: SUM }"
            )
            x = f"{fire}/bypass"
        if number in architecture.pools:
            yield _pool(f"pool{number}", x)
            x = f"pool{number}"
    yield _layer("drop9", "Dropout", (x,), "dropout_param { dropout_ratio: 0.5 }", top=x)
    yield from _convolution("conv10", x, num_classes, 1, pad=architecture.conv10_pad)
    yield _layer(
        "pool10", "Pooling", ("conv10",), "pooling_param { pool: AVE global_pooling: true }"
    )
    if softmax:
        yield _layer("prob", "Softmax", ("pool10",))


def _fire(name: str, source: str, squeeze: int) -> Iterator[str]:
    squeezed, small, large = (f"{name}/{part}" for part in ("squeeze1x1", "expand1x1", "expand3x3"))
    yield from _convolution(squeezed, source, squeeze, 1)
    yield from _convolution(small, squeezed, EXPANSION * squeeze, 1)
    yield from _convolution(large, squeezed, EXPANSION * squeeze, 3, pad=1)
    yield _layer(f"{name}/concat", "Concat", (small, large))


def _convolution(
    name: str,
    bottom: str,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
    relu: bool = True,
) -> Iterator[str]:
    parameters = f"num_output: {channels} kernel_size: {kernel}"
    parameters += f" pad: {pad}" if pad else ""
    parameters += f" stride: {stride}" if stride != 1 else ""
    yield _layer(name, "Convolution", (bottom,), f"convolution_param {{ {parameters} }}")
    if relu:
        head, _, tail = name.rpartition("/")
        relu_name = f"{head}/relu_{tail}" if head else f"relu_{tail}"
        yield _layer(relu_name, "ReLU", (name,), top=name)


def _pool(name: str, bottom: str) -> str:
    return _layer(
        name, "Pooling", (bottom,), "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
    )


def _layer(
    name: str, type: str, bottoms: tuple[str, ...], parameters: str = "", top: str | None = None
) -> str:
    lines = [f'name: "{name}"', f'type: "{type}"']
    lines += [f'bottom: "{bottom}"' for bottom in bottoms]
    lines += [f'top: "{top or name}"', *([parameters] if parameters else [])]
    return "layer {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
