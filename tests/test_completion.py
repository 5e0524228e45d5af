"""Completion in the shell: the scripts, and the words that they get for an answer."""

from __future__ import annotations

import re

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from caffe2torch.cli import COMMANDS
from caffe2torch.cli import main as caffe2torch
from squeezenet.cli import main as squeezenet

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = {"caffe2torch": caffe2torch, "squeezenet": squeezenet}


def complete(program: str, shell: str, step: str, words: str = "") -> str:
    environment = {f"_{program.upper()}_COMPLETE": f"{shell}_{step}"}
    if step == "complete":
        # fish gives the word itself, the others its place.
        place = words.split(" ")[-1] if shell == "fish" else str(words.count(" "))
        environment |= {"COMP_WORDS": words, "COMP_CWORD": place}
    result = CliRunner().invoke(PROGRAMS[program], [], prog_name=program, env=environment)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(autouse=True)
def _recent_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Click asks the bash of this machine for its version and may warn of it."""
    monkeypatch.setattr(BashComplete, "_check_version", lambda *_: None)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_script_asks_the_program(program: str, shell: str) -> None:
    script = complete(program, shell, "source")
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize("shell", SHELLS)
def test_command_names_are_offered(shell: str) -> None:
    words = re.split(r"[\n,\t]", complete("caffe2torch", shell, "complete", "caffe2torch "))
    assert set(COMMANDS) <= set(words)
    words = re.split(r"[\n,\t]", complete("squeezenet", shell, "complete", "squeezenet e"))
    assert {"eval", "export"} <= set(words)
    assert "train" not in words


@pytest.mark.parametrize("shell", SHELLS)
def test_options_are_offered(shell: str) -> None:
    output = complete("caffe2torch", shell, "complete", "caffe2torch parity --ref")
    assert "--reference" in output
    assert "--images" not in output
