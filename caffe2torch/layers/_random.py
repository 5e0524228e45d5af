"""What layers share that are the identity at inference and draw at random in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from caffe2torch.layers import NOTHING, Layer, OnnxBuilder


@dataclass(frozen=True)
class RandomInTraining(Layer):
    """y = x in phase TEST. In TRAIN it draws anew at every pass, which has no exact ONNX form."""

    reads = NOTHING
    works_in_place = True
    drawn: ClassVar[str]
    """What it draws, as the subject of a sentence up to its verb."""

    phase: str = field(kw_only=True)

    @property
    def draws(self) -> bool:
        """Whether it draws at all."""
        return self.phase == "TRAIN"

    def refuse_draws(self) -> None:
        """Raise UnsupportedLayerError if it draws: for the ONNX form."""
        if self.draws:
            raise self.unsupported(
                f"random {self.drawn} no exact ONNX form; convert for phase TEST", "phase"
            )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        self.refuse_draws()
        return [g.op("Identity", inputs[0])]


@dataclass(frozen=True)
class DropoutInTraining(RandomInTraining):
    """One that drops in TRAIN what it draws with the probability ``dropout_ratio``."""

    drawn = "dropout of phase TRAIN has"

    dropout_ratio: float

    @property
    def draws(self) -> bool:
        return self.phase == "TRAIN" and self.dropout_ratio > 0
