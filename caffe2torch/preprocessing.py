"""How a net's input is made from an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """How the net's input is made from an image of 8-bit pixels: (pixel - mean) * scale / std.

    Before that the image is resized with bicubic interpolation and its middle is cut out:

    - ``crop_size``: height and width of the cut; None where the net's input says it.
    - ``resize``: the size before the cut; None where no file says it, and then it is to the
      cut as 256 is to 227, the sizes of Caffe's ImageNet tools.
    - ``protocol``: "caffe" gives up the image's aspect ratio, the others keep it.
    - ``mean`` and ``std``: one number or one a channel, in the order of the input blob
      (Caffe: BGR); empty, they are 0 and 1. Caffe's data layers have no ``std``.
    - ``mean_file``: a mean image that the net was trained with and that is not part of the
      model file.
    - ``mirror``: whether training mirrored half of its images.
    """

    crop_size: int | None = None
    mean: tuple[float, ...] = ()
    mean_file: str | None = None
    scale: float = 1.0
    mirror: bool = False
    channel_order: str = "BGR"
    std: tuple[float, ...] = ()
    resize: int | None = None
    protocol: str = "caffe"

    def to_record(self) -> dict[str, Any]:
        """The fields as a file records them, ``resize`` and ``protocol`` only if set."""
        record = asdict(self)
        for name in ("resize", "protocol"):
            if record[name] == getattr(Preprocessing, name):
                del record[name]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Preprocessing | None:
        """What an artefact, a checkpoint or a manifest of any version records; None for nothing.

        Raises TypeError or ValueError for something else.
        """
        if not record:
            return None
        values = dict(record)
        if "crop" in values:  # In old checkpoints, where the mean can be a path, too.
            values["crop_size"] = values.pop("crop")
        if isinstance(values.get("mean"), str):
            values["mean_file"], values["mean"] = values["mean"], ()
        if values.pop("interpolation", "cubic") != "cubic":
            raise ValueError(f"the interpolation {record['interpolation']!r} is not 'cubic'")
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"unknown preprocessing {sorted(unknown)[0]!r}")
        for name in ("mean", "std"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
