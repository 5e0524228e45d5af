"""SqueezeNet v1.0 and v1.1 as a torch module that computes exactly what Caffe's net does."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor, nn

from caffe2torch.errors import NetError
from caffe2torch.preprocessing import Preprocessing
from squeezenet.deploy import EXPANSION, FIRST_FIRE, bypass_kind, find_architecture
from squeezenet.preprocess import PREPROCESSING


class Fire(nn.Module):
    """One fire module: concat(relu(expand1x1(s)), relu(expand3x3(s))), s = relu(squeeze1x1(x)).

    (N, C, H, W) -> (N, 8 * squeeze, H, W). ``bypass`` "identity" adds x to the result,
    "convolution" adds a 1x1 convolution of x, without a ReLU (arXiv:1602.07360, section 6).
    """

    def __init__(self, in_channels: int, squeeze: int, bypass: str | None = None) -> None:
        super().__init__()
        expand = EXPANSION * squeeze
        self.squeeze1x1 = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.bypass = bypass
        if bypass == "convolution":
            self.bypass_conv = nn.Conv2d(in_channels, 2 * expand, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The module's output; x is left as it is."""
        squeezed = self.squeeze1x1(x).relu_()
        # A ReLU on each: the backward pass then copies no parts of the whole to tear it apart.
        out = torch.cat([self.expand1x1(squeezed).relu_(), self.expand3x3(squeezed).relu_()], 1)
        if self.bypass == "identity":
            out = out + x
        elif self.bypass == "convolution":
            out = out + self.bypass_conv(x)
        return out

    def extra_repr(self) -> str:
        """The bypass, which no submodule shows if it is the identity."""
        return f"bypass={self.bypass!r}"


class SqueezeNet(nn.Module):
    """SqueezeNet: images (N, 3, H, W) -> logits (N, num_classes), Caffe's blob pool10.

    Args:
        version: "1.0" or "1.1".
        bypass: None; "simple" adds the input of fire 3, 5, 7 and 9 to its output; "complex"
            also adds a 1x1 convolution (``bypass_conv``) of the input of fire 2, 4, 6 and 8.
        num_classes: output channels of conv10.
        dropout: probability of zeroing an input of conv10 in training.
        preprocessing: how the images that the weights expect are made.

    Children run in order and have Caffe's layer names, so a state_dict key is the Caffe
    layer's name with "/" as ".", then ".weight" or ".bias": ``fire2.squeeze1x1.weight``.
    Poolings round their output size up and v1.0's conv10 is padded by 1, as in Caffe. The
    ReLU after conv10 is Caffe's too: logits are never negative. New weights follow the
    fillers of the training net.
    """

    def __init__(
        self,
        version: str = "1.1",
        *,
        bypass: str | None = None,
        num_classes: int = 1000,
        dropout: float = 0.5,
        preprocessing: Preprocessing = PREPROCESSING,
    ) -> None:
        super().__init__()
        architecture = find_architecture(version)
        self.version = version
        self.bypass = bypass
        self.preprocessing = preprocessing
        self._conv10_pad = architecture.conv10_pad
        channels = architecture.conv1_channels
        self.conv1 = nn.Conv2d(3, channels, architecture.conv1_kernel, stride=2)
        self.relu_conv1 = nn.ReLU(inplace=True)
        self.pool1 = _max_pool()
        for number, squeeze in enumerate(architecture.squeeze, FIRST_FIRE):
            fire = Fire(channels, squeeze, bypass_kind(number, bypass))
            self.add_module(f"fire{number}", fire)
            channels = 2 * EXPANSION * squeeze
            if number in architecture.pools:
                self.add_module(f"pool{number}", _max_pool())
        self.drop9 = nn.Dropout(dropout)
        self.conv10 = self._classifier(channels, num_classes)
        self.relu_conv10 = nn.ReLU(inplace=True)
        self.pool10 = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images of any size that the net does not shrink to nothing."""
        for layer in self.children():
            x = layer(x)
        return x

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return self.conv10.out_channels

    @property
    def smallest_input(self) -> int:
        """The least height and width of an image: 1 x 1 is left after the last pooling.

        A pooling halves what it is given, and conv1 makes n of 2 (n - 1) + kernel.
        """
        pools = sum(isinstance(layer, nn.MaxPool2d) for layer in self.children())
        kernel: int = self.conv1.kernel_size[0]
        return 2 * ((1 << pools) - 1) + kernel

    @property
    def architecture(self) -> dict[str, Any]:
        """What rebuilds this net, as plain data: the record that a checkpoint carries."""
        return {
            "name": "squeezenet",
            "version": self.version,
            "bypass": self.bypass,
            "num_classes": self.num_classes,
        }

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write config.json and model.safetensors to ``folder``, as Hugging Face's hub has them.

        See ``squeezenet.hub``; needs the extra ``hub``.
        """
        from squeezenet.hub import save_pretrained

        save_pretrained(self, folder, **options)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], **options: Any) -> SqueezeNet:
        """The model of such a folder, or of a repository of the hub, in test mode."""
        from squeezenet.hub import from_pretrained

        return from_pretrained(source, **options)

    def reset_parameters(self) -> None:
        """Fill all weights as Caffe does when it trains the net from nothing.

        Convolutions are uniform within +-sqrt(3 / fan_in) (filler "xavier"), conv10 is
        normal with standard deviation 0.01, biases are 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.conv10:
                bound = math.sqrt(3 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
                _fill_zero(module.bias)
        self._fill_classifier()

    def replace_classifier(self, num_classes: int) -> None:
        """Give the net a freshly filled conv10 of ``num_classes``; the rest is kept."""
        old = self.conv10
        self.conv10 = self._classifier(old.in_channels, num_classes).to(
            old.weight.device, old.weight.dtype
        )
        self._fill_classifier()

    def _classifier(self, in_channels: int, num_classes: int) -> nn.Conv2d:
        if num_classes < 1:
            raise NetError(f"num_classes is {num_classes}: a net needs at least one class")
        return nn.Conv2d(in_channels, num_classes, 1, padding=self._conv10_pad)

    def _fill_classifier(self) -> None:
        nn.init.normal_(self.conv10.weight, std=0.01)
        _fill_zero(self.conv10.bias)


def _max_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _fill_zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
