"""Settings among a verb's other words: KEY=VALUE may stand before, between and after options."""

import argparse
import re
from typing import Any


def add(sub: Any) -> None:
    """Let a verb's parser collect words like `group.key=value` in its `set`."""
    sub.add_argument("--set", action="append", default=[], help=argparse.SUPPRESS)
    # argparse takes no positional arguments after an option, so key=value becomes an option.
    parse = sub.parse_known_args
    sub.parse_known_args = lambda words, found=None: parse(list(map(_as_option, words)), found)


def _as_option(word: str) -> str:
    return f"--set={word}" if re.match(r"\w+(\.\w+)+=", word) else word
