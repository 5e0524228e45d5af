"""The commands, one a file, and what command lines of other packages share with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click


class RegisteredChoice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """The names of a registry, asked for when they are needed: plugins may add some."""

    case_sensitive = True

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        self._names = names

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]  # an attribute there
        """The names as they are now."""
        return tuple(self._names())


def engine_choice() -> RegisteredChoice:
    """The registered engines; their files are imported when the choice is looked at."""

    def names() -> Sequence[str]:
        from caffe2torch.engines import engine_names

        return engine_names()

    return RegisteredChoice(names)
