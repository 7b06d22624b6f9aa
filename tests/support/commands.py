"""Commands as Markdown, `--help` and messages show them: found, filled in, split into words."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.house import ROOT

# What a placeholder stands for; one that is not here fails, so that no command goes unread.
PLACEHOLDERS = {
    "RUN": "demo",
    "SWEEP": "grid",
    "DIR": "folder",
    "FILE": "file",
    "DATA": "data",
    "FOLDER": "folder",
    "NAME": "coding",
    "STAGE": "finetune/0123",
    "PYTHON": "/usr/bin/python3",
    "OWNER": "owner",
    "DAY": "2026-11-29",
    "KEY": "seed",
    "VALUE": "1",
    "LLAMA_CPP": "folder",
    **{name: name for name in ("GATEWAY_KEY", "SEARCH_KEY")},  # variables of the reader's own
}
_PLACEHOLDER = re.compile(r"(?<![\w/.@-])[A-Z][A-Z_]{2,}(?![\w])")
_ENVIRONMENT = re.compile(r"[A-Z_]+=\S*")
_PROGRAMS = ("understudy", ".venv/bin/understudy")


class Command(NamedTuple):
    """One command of ours, without its program."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """Every Markdown file that tells somebody what to type."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for folder in ("docs", "experiments", "slurm"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """Language, contents and first line of each fenced block."""
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.M | re.S):
        body = re.sub(rf"^{found[1]}", "", found[3], flags=re.M)
        yield found[2], body, text[: found.start()].count("\n") + 2


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^( *)```\w*\n.*?^\1```$", "", text, flags=re.M | re.S)


def inline(text: str) -> Iterator[str]:
    """What stands between backticks, over the end of a line, too."""
    yield from (" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text))


def of_line(place: str, line: str) -> Iterator[Command]:
    """Our commands in a shell line: also behind `&&` and `;`, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("&;|"):
            while words and _ENVIRONMENT.fullmatch(words[0]):
                words.pop(0)
            if words and words[0] in _PROGRAMS:
                yield Command(place, tuple(filled(place, one) for one in words[1:] if one != "…"))
            words = []
        else:
            words.append(word)


def filled(place: str, word: str) -> str:
    """A word with its placeholders filled in."""

    def put(found: re.Match[str]) -> str:
        assert found[0] in PLACEHOLDERS, f"{place}: what does {found[0]} of {word} stand for?"
        return PLACEHOLDERS[found[0]]

    return _PLACEHOLDER.sub(put, word.replace("…", ""))


def of_page(path: Path) -> Iterator[Command]:
    """Our commands in a Markdown file."""
    text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    for language, body, start in blocks(text):
        if language in ("", "bash", "sh"):
            lines = body.replace("\\\n", " ").replace("\n$ ", "\n").splitlines()
            for line in lines:
                if re.match(
                    r"(?:\S+=\S* )*(?:\.venv/bin/)?understudy |.*(?:&&|;) *understudy ", line
                ):
                    yield from of_line(f"{name}:{start}", line)
    yield from of_prose(name, prose(text))
    for _, body, _ in blocks(text):
        yield from of_prose(name, body)


def of_prose(place: str, text: str) -> Iterator[Command]:
    """Our commands between backticks."""
    for code in inline(text):
        if code.startswith("understudy "):
            yield from of_line(place, code)


def of_help(place: str, text: str) -> Iterator[Command]:
    """Our commands in a `--help`: an example is a line, its explanation stands two spaces off."""
    for line in text.splitlines():
        if re.match(r" +(?:[A-Z_]+=\S+ )?understudy ", line):
            yield from of_line(place, re.split(r"(?<=\S)  +", line.strip())[0])
    yield from of_prose(place, text)
