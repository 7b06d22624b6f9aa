"""Commands as a person types them, and what the program prints to be pasted into a shell.

    command("run", override("coverage.path", "my file, 1.jsonl"), "task=coding")
    → understudy run "coverage.path='my file, 1.jsonl'" task=coding

Two grammars meet in one word: Hydra reads the value of an override, the shell reads the word.
Nobody thinks of Hydra's when typing a path, so `as_typed` takes paths by their letter.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from understudy.config import WORDS, is_path
from understudy.errors import BadInput

# One word to Hydra, and no number, which .1 would be.
_BARE = re.compile(r"(\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
_NOT_TEXT = ("null", "true", "false", "nan", "inf")
_SINGLE_QUOTED = re.compile(r"""[^"\\$`!']*('[^"\\$`!']*)+""")  # and nothing else to quote
_TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
# What is meant for Hydra even where a path is expected: nothing, null, quoted texts, functions.
_HYDRAS = re.compile(
    rf"|null|\?\?\?|{_TEXT}(,{_TEXT})*|(choice|range|glob|shuffle|sort|tag|str)\(.*\)", re.I | re.S
)
_PLACES = ("--config-dir", "--root")
# 1,000 and 12,500.5; of 250,500 both may be meant, and lists of three-digit numbers are common.
_THOUSANDS = re.compile(r"(?=\d{1,2},|.*,0)[1-9]\d{0,2}(,\d{3})+(\.\d+)?k?")
_DECIMAL = re.compile(r"(0|[1-9]\d*),0\d+")  # 0,05


def command(*words: str, operand: str | None = None) -> str:
    """Return the command line of these words, quoted for the shell.

    `operand` is a name or a file, which may begin as options do.
    """
    last = [] if operand is None else ["--", operand] if operand[:1] == "-" else [operand]
    return " ".join(map(in_shell, ["understudy", *words, *last]))


def in_shell(word: str) -> str:
    """Return a word as a shell reads it, in double quotes where single ones stand in it."""
    return f'"{word}"' if _SINGLE_QUOTED.fullmatch(word) else shlex.quote(word)


def override(key: str, text: str) -> str:
    """Return `key=text` as one word of a command, which Hydra composes to exactly this text."""
    return f"{key}={quoted(without_interpolation(text))}"


def quoted(text: str) -> str:
    """Return a text as Hydra's grammar wants it, quoted where that is needed.

    Within quotes every character stands for itself, but for the quote and the backslashes right
    before it or at the end.
    """
    if _BARE.fullmatch(text) and text.casefold() not in _NOT_TEXT:
        return text
    text = re.sub(r"(\\*)'", r"\1\1\'", text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)
    return f"'{text}'"


def without_interpolation(text: str) -> str:
    """Return a text whose every `${` is read as these two characters, in a config file, too."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def without_places(command_line: str) -> str:
    """Return a command without the directories of this machine: of each path, its last part."""
    words = list[str]()
    for word in shlex.split(command_line):
        key, sign, text = word.partition("=")
        is_place = sign and (is_path(key) or key in _PLACES)
        if is_place or words[-1:] in ([one] for one in _PLACES):
            text = text if sign else word
            bare = text[1:-1] if re.fullmatch(_TEXT, text) else text
            last = bare if ":" in bare else Path(bare).name  # pip:NAME and package:NAME are none
            word = f"{key}={last}" if sign else last
        words.append(word)
    return shlex.join(words)


def as_typed(words: Iterable[str]) -> list[str]:
    """Return overrides as Hydra is to read them: a path or an option is one value.

    Raises BadInput, with both spellings, where a comma is not sure to be that of a list.
    """
    return list(map(_as_typed, words))


def _as_typed(word: str) -> str:
    key, _, text = word.partition("=")
    if is_hydras(text):
        return word
    # Files of conf/service, which the gateway borrows.
    if re.fullmatch(r"gateway\.service|gateway\.services\.[\w-]+", key):
        return f"+service@{word}"
    if re.match(r"gateway\.(aliases|keys)\b", key):  # whose names are the user's own
        return f"++{word}"
    if is_path(key):
        if "," in text and not Path(text).expanduser().exists():
            several = ",".join(map(quoted, text.split(",")))
            raise _unclear(word, "and no file here has that name", quoted(text), several)
        return f"{key}={quoted(text)}"
    if key.lstrip("+") in WORDS and text[:1] == "[" and text[-1:] == "]":
        items = re.findall(rf"(?:{_TEXT}|[^,])+", text[1:-1])
        items = [item if re.fullmatch(_TEXT, item) else quoted(item.strip()) for item in items]
        return f"{key}=[{','.join(items)}]"
    if _THOUSANDS.fullmatch(text):
        raise _unclear(word, "in a number", text.replace(",", ""), text)
    if _DECIMAL.fullmatch(text):
        raise _unclear(word, "in a number", text.replace(",", "."), text)
    return word


def is_hydras(text: str) -> bool:
    """Return whether a value is meant for Hydra: quoted, a function, or an interpolation."""
    return "${" in text or _HYDRAS.fullmatch(text) is not None


def _unclear(word: str, where: str, one: str, several: str) -> BadInput:
    key = word.partition("=")[0]
    return BadInput(
        f"{word} has a comma {where}: type {in_shell(f'{key}={one}')} for one value, "
        f"{in_shell(f'{key}=choice({several})')} for a sweep"
    )
