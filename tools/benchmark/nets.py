"""The nets of the benchmark as prototxts, and caffemodels of them with seeded weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from caffe2torch.graph import FloatArray
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.pipeline import build_graph, with_params
from squeezenet.deploy import deploy_prototxt

CHAIN_WIDTH = 1024
CHAIN_PART = 250
"""Layers of a chain in one message: 1 GiB."""


class Net:
    """Grows a prototxt layer by layer; every method returns the blob it made."""

    def __init__(self, name: str, *shape: int) -> None:
        dims = " ".join(f"dim: {dim}" for dim in shape)
        self.lines = [
            f'name: "{name}"',
            f'layer {{ name: "data" type: "Input" top: "data" '
            f"input_param {{ shape {{ {dims} }} }} }}",
        ]

    def layer(
        self, name: str, type: str, bottoms: str | Sequence[str], param: str = "", top: str = ""
    ) -> str:
        """Any layer; in place where ``top`` is the bottom."""
        bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
        reads = " ".join(f'bottom: "{b}"' for b in bottoms)
        top = top or name
        self.lines.append(f'layer {{ name: "{name}" type: "{type}" {reads} top: "{top}" {param} }}')
        return top

    def conv(
        self,
        name: str,
        x: str,
        channels: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        more: str = "",
    ) -> str:
        """A Convolution."""
        return self.layer(
            name,
            "Convolution",
            x,
            f"convolution_param {{ num_output: {channels} kernel_size: {kernel} "
            f"stride: {stride} pad: {pad} {more} }}",
        )

    def conv_relu(
        self, name: str, x: str, channels: int, kernel: int, stride: int = 1, pad: int = 0
    ) -> str:
        """A Convolution and its ReLU, in place."""
        x = self.conv(name, x, channels, kernel, stride, pad)
        return self.relu(f"relu_{name}", x)

    def relu(self, name: str, x: str) -> str:
        """A ReLU in place."""
        return self.layer(name, "ReLU", x, top=x)

    def pool(
        self, name: str, x: str, kernel: int, stride: int, pad: int = 0, how: str = "MAX"
    ) -> str:
        """A Pooling."""
        return self.layer(
            name,
            "Pooling",
            x,
            f"pooling_param {{ pool: {how} kernel_size: {kernel} stride: {stride} pad: {pad} }}",
        )

    def linear(self, name: str, x: str, outputs: int) -> str:
        """An InnerProduct."""
        return self.layer(
            name, "InnerProduct", x, f"inner_product_param {{ num_output: {outputs} }}"
        )

    def batch_norm(self, name: str, x: str) -> str:
        """BatchNorm and Scale in place, as ResNet's authors published them."""
        self.layer(f"bn_{name}", "BatchNorm", x, "batch_norm_param { use_global_stats: true }", x)
        return self.layer(f"scale_{name}", "Scale", x, "scale_param { bias_term: true }", x)

    def text(self) -> str:
        """The prototxt."""
        return "\n".join(self.lines) + "\n"


def vgg16() -> str:
    """Simonyan and Zisserman 2014, configuration D: 138 M parameters."""
    net = Net("VGG_16", 1, 3, 224, 224)
    x = _vgg_body(net, "data")
    for name in ("fc6", "fc7"):
        x = net.relu(f"relu_{name}", net.linear(name, x, 4096))
        x = net.layer(f"drop_{name}", "Dropout", x, top=x)
    net.layer("prob", "Softmax", net.linear("fc8", x, 1000))
    return net.text()


def resnet50() -> str:
    """He et al. 2015, with BatchNorm and Scale after every convolution."""
    net = Net("ResNet-50", 1, 3, 224, 224)
    x = net.relu("relu_conv1", net.batch_norm("conv1", net.conv("conv1", "data", 64, 7, 2, 3)))
    x = net.pool("pool1", x, 3, 2)
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 2):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 2 else 1
            x = _bottleneck(net, f"res{stage}{'abcdef'[block]}", x, width, stride, block == 0)
    x = net.pool("pool5", x, 7, 1, how="AVE")
    net.layer("prob", "Softmax", net.linear("fc1000", x, 1000))
    return net.text()


def googlenet() -> str:
    """Szegedy et al. 2014, the deploy net: LRN and nine inception modules."""
    net = Net("GoogLeNet", 1, 3, 224, 224)
    lrn = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    x = net.pool("pool1", net.conv_relu("conv1", "data", 64, 7, 2, 3), 3, 2)
    x = net.conv_relu("conv2_reduce", net.layer("norm1", "LRN", x, lrn), 64, 1)
    x = net.layer("norm2", "LRN", net.conv_relu("conv2", x, 192, 3, 1, 1), lrn)
    x = net.pool("pool2", x, 3, 2)
    for name, sizes in _INCEPTION.items():
        x = _inception(net, f"inception_{name}", x, sizes)
        if name in ("3b", "4e"):
            x = net.pool(f"pool_{name}", x, 3, 2)
    x = net.pool("pool5", x, 7, 1, how="AVE")
    x = net.layer("drop", "Dropout", x, top=x)
    net.layer("prob", "Softmax", net.linear("classifier", x, 1000))
    return net.text()


def ssd() -> str:
    """A detector in the manner of Liu et al. 2016: VGG at 300 x 300, two heads, 21 classes."""
    net = Net("SSD", 1, 3, 300, 300)
    x = _vgg_body(net, "data", last_pool=False)
    deep = net.conv_relu("fc7", net.pool("pool5", x, 3, 1, 1), 512, 1)
    locations, scores, priors = zip(
        *(_ssd_head(net, f"head{i}", f, 60 + 90 * i) for i, f in enumerate((x, deep))), strict=True
    )
    loc = net.layer("mbox_loc", "Concat", locations, "concat_param { axis: 1 }")
    conf = net.layer("mbox_conf", "Concat", scores, "concat_param { axis: 1 }")
    prior = net.layer("mbox_priorbox", "Concat", priors, "concat_param { axis: 2 }")
    shape = "reshape_param { shape { dim: 0 dim: -1 dim: 21 } }"
    conf = net.layer("conf_reshape", "Reshape", conf, shape)
    conf = net.layer("conf_softmax", "Softmax", conf, "softmax_param { axis: 2 }")
    conf = net.layer("conf_flatten", "Flatten", conf)
    net.layer(
        "detection_out",
        "DetectionOutput",
        (loc, conf, prior),
        "detection_output_param { num_classes: 21 share_location: true background_label_id: 0 "
        "nms_param { nms_threshold: 0.45 top_k: 400 } "
        "code_type: CENTER_SIZE keep_top_k: 200 confidence_threshold: 0.1 }",
    )
    return net.text()


def linear_chain(layers: int, prefix: str = "", outputs: int = CHAIN_WIDTH) -> str:
    """InnerProducts in a row, 4 MiB each unless ``outputs`` is other than usual."""
    net = Net("chain", 1, outputs)
    x = "data"
    for number in range(layers):
        x = net.linear(f"{prefix}fc{number}", x, outputs)
    return net.text().replace('"data"', f'"{prefix}data"')


NETS: dict[str, Callable[[], str]] = {
    "squeezenet_v1.0": lambda: deploy_prototxt("1.0", None, 1000),
    "squeezenet_v1.1": lambda: deploy_prototxt("1.1", None, 1000),
    "googlenet": googlenet,
    "resnet50": resnet50,
    "ssd": ssd,
    "vgg16": vgg16,
}


def write_net(text: str, stem: Path) -> tuple[Path, Path]:
    """Write STEM.prototxt and STEM.caffemodel; weights keep activations at unit scale."""
    prototxt, caffemodel = (Path(f"{stem}{suffix}") for suffix in (".prototxt", ".caffemodel"))
    net = parse_prototxt(text, str(prototxt))
    net.name = stem.name
    graph = build_graph(net)
    rng = np.random.default_rng(0)
    params = {key: _values(rng, key, array) for key, array in graph.params.items()}
    write_caffemodel(with_params(graph, params), caffemodel, prototxt)
    return prototxt, caffemodel


def write_chain(megabytes: int, folder: Path) -> Path:
    """A caffemodel of the given size (10**6 bytes), which may be above 2 GiB.

    No writer makes a message of 2 GiB; protobuf reads several that follow each other as one.
    """
    path = folder / f"chain_{megabytes}.caffemodel"
    layers = max(1, round(megabytes * 1e6 / (CHAIN_WIDTH * (CHAIN_WIDTH + 1) * 4)))
    with open(path, "wb") as whole:
        for part, start in enumerate(range(0, layers, CHAIN_PART)):
            text = linear_chain(min(CHAIN_PART, layers - start), f"part{part}_")
            prototxt, piece = write_net(text, folder / "part")
            with open(piece, "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 24)
            piece.unlink()
            prototxt.unlink()
    return path


def _values(rng: np.random.Generator, key: str, array: FloatArray) -> FloatArray:
    """Weights of He et al.'s initialisation; statistics and scales near those of a trained net."""
    name = key.rpartition(".")[2]
    if name in ("running_var", "scale_factor") or (name == "weight" and array.ndim == 1):
        return np.ones(array.shape, np.float32)
    gain = (2 / math.prod(array.shape[1:])) ** 0.5 if name == "weight" else 0.05
    values: FloatArray = rng.standard_normal(array.shape, np.float32) * np.float32(gain)
    return values


def _vgg_body(net: Net, x: str, last_pool: bool = True) -> str:
    for stage, (depth, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for number in range(1, depth + 1):
            x = net.conv_relu(f"conv{stage}_{number}", x, channels, 3, pad=1)
        if stage < 5 or last_pool:
            x = net.pool(f"pool{stage}", x, 2, 2)
    return x


def _bottleneck(net: Net, name: str, x: str, width: int, stride: int, project: bool) -> str:
    shortcut = x
    if project:
        branch = f"{name}_branch1"
        shortcut = net.conv(branch, x, 4 * width, 1, stride, 0, "bias_term: false")
        shortcut = net.batch_norm(branch, shortcut)
    for part, channels, kernel in (("a", width, 1), ("b", width, 3), ("c", 4 * width, 1)):
        branch = f"{name}_branch2{part}"
        stride_here = stride if part == "a" else 1
        x = net.conv(branch, x, channels, kernel, stride_here, kernel // 2, "bias_term: false")
        x = net.batch_norm(branch, x)
        if part != "c":
            x = net.relu(f"{branch}_relu", x)
    return net.relu(f"{name}_relu", net.layer(name, "Eltwise", (shortcut, x)))


_INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool projection (table 1 of the paper)."""


def _inception(net: Net, name: str, x: str, sizes: tuple[int, ...]) -> str:
    one, reduce3, three, reduce5, five, projection = sizes
    parts = (
        net.conv_relu(f"{name}_1x1", x, one, 1),
        net.conv_relu(
            f"{name}_3x3", net.conv_relu(f"{name}_3x3_reduce", x, reduce3, 1), three, 3, pad=1
        ),
        net.conv_relu(
            f"{name}_5x5", net.conv_relu(f"{name}_5x5_reduce", x, reduce5, 1), five, 5, pad=2
        ),
        net.conv_relu(f"{name}_pool_proj", net.pool(f"{name}_pool", x, 3, 1, 1), projection, 1),
    )
    return net.layer(f"{name}_output", "Concat", parts)


def _ssd_head(net: Net, name: str, x: str, size: int) -> tuple[str, str, str]:
    """Locations, class scores and prior boxes (four a place) of one feature map."""

    def flat(kind: str, channels: int) -> str:
        y = net.conv(f"{name}_{kind}", x, channels, 3, pad=1)
        y = net.layer(
            f"{name}_{kind}_perm", "Permute", y,
            "permute_param { order: 0 order: 2 order: 3 order: 1 }",
        )  # fmt: skip
        return net.layer(f"{name}_{kind}_flat", "Flatten", y)

    priors = net.layer(
        f"{name}_prior",
        "PriorBox",
        (x, "data"),
        f"prior_box_param {{ min_size: {size} max_size: {size + 90} aspect_ratio: 2 flip: true "
        "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }",
    )
    return flat("loc", 16), flat("conf", 84), priors
