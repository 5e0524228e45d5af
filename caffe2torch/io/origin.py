"""Where in a prototxt a layer and its fields stand, for errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from caffe2torch.errors import Caffe2TorchError, NetError, UnsupportedLayerError
from caffe2torch.io.schema import Message

_TOKEN = re.compile(
    r"""\#[^\n]* | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | [\w.+-]+ | [{}<>\[\]:]""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Origin:
    """The prototxt that a net was read from: its path, its text, and its layers.

    Of each layer ``layers`` has the name, the type if the text has one, and the place
    (file:line:column).
    """

    source: str
    text: str = field(repr=False)
    layers: tuple[tuple[str, str, str], ...] = field(repr=False)

    @classmethod
    def of(cls, net: Message) -> Origin | None:
        """The origin of a net as it was read; None if it was not read from a prototxt."""
        if not net.text:
            return None
        layers = [(layer.name, layer.type, layer.place) for layer in net.layer]
        layers += [(v1.layer.name or v1.name, "", v1.place) for v1 in net.layers]
        return cls(net.place, net.text, tuple(layers))

    def locate(self, error: Caffe2TorchError) -> None:
        """Have ``error`` begin with the place of its field, else of its layer, else of the net.

        An error that has a place already keeps it, and one of the weights as a whole has none.
        """
        about_net = isinstance(error, NetError | UnsupportedLayerError) or error.layer is not None
        if error.place is None and about_net:
            offset = self._offset_of(error)
            line, column = self.text.count("\n", 0, offset), self.text.rfind("\n", 0, offset)
            error.locate(f"{self.source}:{line + 1}:{offset - column}")

    def _offset_of(self, error: Caffe2TorchError) -> int:
        """Where the field is of which most names are in the text: ``scale_param.axis``.

        Names of messages around it may be left out. Of a field that is given several times it is
        the one whose value the error quotes.
        """
        layer = self._layer_offset(error)
        # Of a layer that is not in the text, one that upgrades add, it is what that was made of.
        field = error.field if layer is not None or error.layer is None else "input"
        if not field:
            return layer or 0
        path = field.split(".")
        best = 0, False, layer or 0
        for offset, names, value in self._fields(layer):
            is_whole = len(path) <= len(names) and names[-len(path) :] == path
            known = len(path) if is_whole else len(names)
            found = known, value != "" and repr(value) in error.reason, offset
            if (is_whole or names == path[: len(names)]) and found[:2] > best[:2]:
                best = found
        return best[2]

    def _layer_offset(self, error: Caffe2TorchError) -> int | None:
        alike = [(type, place) for name, type, place in self.layers if name == error.layer]
        exact = [place for type, place in alike if type == error.type]
        place = error.near or next(iter(exact or [place for _, place in alike]), "")
        if not place:
            return None
        _, line, column = place.rsplit(":", 2)
        lines = self.text.split("\n", int(line) - 1)
        return len(self.text) - len(lines[-1]) + int(column) - 1

    def _fields(self, layer: int | None) -> Iterator[tuple[int, list[str], str]]:
        """Offset, names and value of each field of the layer that begins at an offset, or of all.

        The names are those of the messages around it, from within the layer on, and its own.
        """
        names: list[str] = []
        name, at, is_value, is_list = "", 0, False, False
        for match in _TOKEN.finditer(self.text, layer or 0):
            token = match[0]
            if token[0] in ":[":
                is_value, is_list = True, is_list or token == "["
            elif token == "]":
                is_value = is_list = False
            elif token in "{<":
                names.append(name)
                is_value = False
                yield at, names[layer is not None :], ""
            elif token in "}>":
                names.pop()
                if not names and layer is not None:
                    return
            elif is_value:
                is_value = is_list
                yield at, [*names[layer is not None :], name], token.strip("\"'")
            elif token[0] != "#":
                name, at = token, match.start()


@contextmanager
def located(origin: Origin | None) -> Iterator[None]:
    """Have what is raised within begin with its place in the prototxt, if there is one."""
    try:
        yield
    except Caffe2TorchError as error:
        if origin is not None:
            origin.locate(error)
        raise
