from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import text_format
from torch import Tensor

from caffe2torch.io.schema import message_class


@dataclass
class NetText:
    """Writes a SqueezeNet prototxt whose layer and blob names give nothing away."""

    version: str = "1.1"
    bypass: str | None = None
    num_classes: int = 1000
    dropout: float | None = 0.5
    softmax: bool = True
    size: int = 67
    caffe_names: bool = False

    def __post_init__(self) -> None:
        self.layers: list[str] = []

    def text(self) -> str:
        self.layers = [
            'layer { name: "in" type: "Input" top: "in" input_param { shape '
            f"{{ dim: 1 dim: 3 dim: {self.size} dim: {self.size} }} }} }}"
        ]
        old = self.version == "1.0"
        x = self.pool(self.conv("conv1", "in", 96 if old else 64, 7 if old else 3, stride=2))
        for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
            x = self.fire(number, x, squeeze)
            if number in ((4, 8) if old else (3, 5)):
                x = self.pool(x)
        if self.dropout is not None:
            x = self.add("Dropout", x, f"dropout_param {{ dropout_ratio: {self.dropout} }}")
        x = self.conv("conv10", x, self.num_classes, 1, pad=1 if old else 0)
        x = self.add("Pooling", x, "pooling_param { pool: AVE global_pooling: true }")
        if self.softmax:
            self.add("Softmax", x)
        return "\n".join(self.layers)

    def fire(self, number: int, x: str, squeeze: int) -> str:
        squeezed = self.conv(f"fire{number}/squeeze1x1", x, squeeze, 1)
        small = self.conv(f"fire{number}/expand1x1", squeezed, 4 * squeeze, 1)
        large = self.conv(f"fire{number}/expand3x3", squeezed, 4 * squeeze, 3, pad=1)
        out = self.add("Concat", f'{small}" bottom: "{large}')
        if self.bypass == "complex" and number % 2 == 0:
            x = self.conv(f"fire{number}/bypass_conv", x, 8 * squeeze, 1, relu=False)
        elif not self.bypass or number % 2 == 0:
            return out
        return self.add("Eltwise", f'{x}" bottom: "{out}')

    def conv(
        self,
        name: str,
        x: str,
        channels: int,
        size: int,
        *,
        stride: int = 1,
        pad: int = 0,
        relu: bool = True,
    ) -> str:
        fields = f"num_output: {channels} kernel_size: {size} stride: {stride} pad: {pad}"
        fillers = 'weight_filler { type: "constant" value: 0.01 }'
        top = self.add("Convolution", x, f"convolution_param {{ {fields} {fillers} }}", name=name)
        if relu:
            self.layers.append(
                f'layer {{ name: "r{top}" type: "ReLU" bottom: "{top}" top: "{top}" }}'
            )
        return top

    def pool(self, x: str) -> str:
        return self.add("Pooling", x, "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")

    def add(self, kind: str, x: str, fields: str = "", name: str | None = None) -> str:
        top = f"b{len(self.layers)}"
        name = name if name and self.caffe_names else f"layer{len(self.layers)}"
        self.layers.append(
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{x}" top: "{top}" {fields} }}'
        )
        return top


@pytest.fixture(scope="session")
def squeezenet_prototxt() -> Callable[..., str]:
    """Returns the prototxt of a SqueezeNet; keywords are the fields of NetText."""
    return lambda **options: NetText(**options).text()


@pytest.fixture(scope="session")
def caffemodel_bytes() -> Callable[..., bytes]:
    """Returns a SqueezeNet caffemodel with the given state_dict; keywords as NetText."""

    def build(state: Mapping[str, Tensor], **options: Any) -> bytes:
        text = NetText(caffe_names=True, **options).text()
        net = text_format.Parse(text, message_class("NetParameter")())
        for layer in net.layer:
            if layer.type == "Convolution":
                for own in ("weight", "bias"):
                    value = state[f"{layer.name.replace('/', '.')}.{own}"]
                    blob = layer.blobs.add()
                    blob.shape.dim[:] = value.shape
                    blob.data.extend(value.flatten().tolist())
        return net.SerializeToString()

    return build
