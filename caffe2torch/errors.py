"""The errors a user can meet. Each message says what, which, why and what to do."""

from __future__ import annotations

MAX_LINE = 2000
"""Characters of an error that are shown."""
NO_MEMORY = (
    "there is not enough memory for what the net asks for; check the sizes in its prototxt, "
    "or use a machine with more"
)


class Caffe2TorchWarning(UserWarning):
    """Something about a conversion that a user should know and that is not an error."""


class Caffe2TorchError(Exception):
    """Base of every error that bad input or an unsupported net can cause.

    ``layer``, ``type`` and ``field`` name the layer, its Caffe type and the parameter at
    fault where they are known, and lead the message. ``place`` (file:line:column) stands
    before them where the net was read from a prototxt; ``near`` ends with the line and column
    of the layer, or of a field in it, where they are known.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        layer: str | None = None,
        type: str | None = None,
        field: str | None = None,
        near: str = "",
    ) -> None:
        self.layer, self.type, self.field = layer, type, field
        self.reason, self.near = message, near
        self.place: str | None = None
        super().__init__(_where(layer, type, field) + message)

    def locate(self, place: str) -> None:
        """Have the message begin with ``place``."""
        self.place = place
        self.args = (f"{place}: {self}",)


def _where(layer: str | None, type: str | None, field: str | None) -> str:
    if layer is None:
        return ""
    kind = f" ({type})" if type else ""
    parameter = f", {field}" if field else ""
    return f"layer {layer!r}{kind}{parameter}: "


def one_line(text: str) -> str:
    """``text`` for a terminal: names out of a file can hold line ends, escapes and more.

    White space becomes a blank, what cannot be printed its escape, and what no one would
    read to the end is cut.
    """
    text = " ".join(text.split())
    if len(text) > MAX_LINE:
        text = f"{text[:MAX_LINE]}... ({len(text) - MAX_LINE} characters more)"
    return printable(text)


def first_line(error: BaseException) -> str:
    """What a library's error says before it goes into detail."""
    return str(error).strip().split("\n", maxsplit=1)[0]


def printable(text: str) -> str:
    """``text`` with the escapes of what a terminal would act on, or could not show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class WorkerError(Caffe2TorchError):
    """A process that makes batches ended before its work was done."""


class ReadError(Caffe2TorchError):
    """A file is missing, truncated, corrupt or of another kind than it should be."""


class NetError(Caffe2TorchError):
    """The net is not one that Caffe would build: a bad parameter, shape or connection."""


class WeightsError(Caffe2TorchError):
    """The weights do not fit the net: a wrong shape or count, or a layer without any."""


class UnsupportedLayerError(Caffe2TorchError):
    """A layer type, or a parameter of one, that has no exact conversion."""


class ArtefactError(Caffe2TorchError):
    """A converted file cannot be written, or is not one that this version can read."""


class ParityError(Caffe2TorchError):
    """Engines cannot be compared: no usable input, engine or reference."""


class EngineError(ParityError):
    """An engine cannot run the net: a comparison leaves it out and says why."""


class NotInstalledError(EngineError):
    """An engine's library, or a part of it, is not installed."""


class SessionError(Caffe2TorchError):
    """ONNX Runtime cannot load or run a model."""
