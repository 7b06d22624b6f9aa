"""Commands as a person types them: what the program prints can be pasted into a shell.

    command("run", override("coverage.path", "my file, 1.jsonl"), "task=coding")
    → understudy run 'coverage.path='"'"'my file, 1.jsonl'"'"'' task=coding

Two grammars meet in one word: Hydra reads the value of an override, the shell reads the word.
"""

import re
import shlex

# One word to Hydra, and no number, which .1 would be.
_BARE = re.compile(r"(\.{0,2}/)*[A-Za-z_][A-Za-z0-9_./-]*")
_NOT_TEXT = ("null", "true", "false", "nan", "inf")


def command(*words: str) -> str:
    """Return the command line of these words, quoted for the shell."""
    return shlex.join(["understudy", *words])


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
