"""What the documentation says to run: code blocks, inline commands and links of its pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = sorted([*TOP, *ROOT.glob("docs/*.md")])
SHELL = "bash"
LANGUAGES = {SHELL, "python", "prototxt", "yaml", "json", "text"}
"""A fence must name one of these. An indented block is shell."""
PROGRAM = r"(?:caffe2torch|squeezenet|python tools/\S+)"
COMMAND = re.compile(rf"(?:^|&& |; |\| )\s*({PROGRAM}(?= |$)[^\n;&|]*)", re.MULTILINE)
FULL = re.compile(r"(?!.* [A-Z]{2})((caffe2torch|squeezenet) [a-z]+ [^-\s].*|python tools/\S+ .+)")
"""A command in a code span that can be run; others, such as `caffe2torch parity --bisect` and
`caffe2torch convert MODEL OUTPUT`, only mention one."""
FILE_NAME = re.compile(r"# ([\w/]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A code block. ``where`` is its place in the documentation."""

    where: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is the content of, which its first line names in a comment."""
        match = FILE_NAME.match(self.text)
        return match[1] if match and self.language != SHELL else None


def name_of(page: Path) -> str:
    """``README.md``, ``docs/faq.md``."""
    return page.relative_to(ROOT).as_posix()


def tokens(page: Path) -> Iterator[Token]:
    """All tokens of a page, those inside of paragraphs and tables too."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, and the full commands in its text, in order."""
    found, line = [], 0
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else line
        where = f"{name_of(page)}:{line}"
        if token.type in ("fence", "code_block"):
            language = token.info.strip() if token.type == "fence" else SHELL
            found.append(Block(where, language, token.content))
        elif token.type == "code_inline" and FULL.fullmatch(token.content):
            found.append(Block(where, SHELL, token.content + "\n"))
    return found


def inline_code(page: Path) -> list[str]:
    """The code spans of a page."""
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def commands(text: str) -> list[list[str]]:
    """The words of each command of ours in a block or a code span."""
    joined = re.sub(r"\\?\n\s+(?=--)", " ", text)
    return [shlex.split(match[1], comments=True) for match in COMMAND.finditer(joined)]


def links(page: Path) -> list[str]:
    """The targets of links and pictures of a page that are not on the web."""
    targets = [
        str(token.attrs.get("href") or token.attrs.get("src"))
        for token in tokens(page)
        if token.type in ("link_open", "image")
    ]
    return [target for target in targets if not target.startswith(("https:", "http:"))]


def anchors(page: Path) -> set[str]:
    """What a link can point to inside a page: its headings, as web sites name them."""
    found, is_heading = set(), False
    for token in tokens(page):
        if is_heading and token.type == "inline":
            words = re.sub(r"[^\w\- ]", "", token.content.lower())
            found.add(words.replace(" ", "-"))
        is_heading = token.type == "heading_open"
    return found
