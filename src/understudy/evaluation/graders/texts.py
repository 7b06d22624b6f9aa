"""How graders read texts: what they ignore, and the blocks that models put around an answer."""

import re
import unicodedata
from collections.abc import Callable, Collection

from understudy.config.grader import Ignored

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)


def normalizer(ignore: Collection[Ignored]) -> Callable[[str], str]:
    """Return a function that takes away what does not count, in this order: see `Ignored`.

    White space at the ends never counts, nor which of two forms Unicode has for a letter.
    """
    case, space, punctuation = (one in ignore for one in ("case", "space", "punctuation"))

    def normal(text: str) -> str:
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if case:
            text = text.casefold()
        if punctuation:
            words = "".join(one if one.isalnum() or one.isspace() else " " for one in text)
            text = text if words.isspace() else words  # of signs alone nothing would be left
        return " ".join(text.split()) if space or punctuation else text.strip()

    return normal


def fenced(text: str, *languages: str) -> str | None:
    """Return what stands in the fences of one of these languages, or of none named; None without.

    Several blocks are joined, as a model that explains its code between them means it.
    """
    if "```" not in text:
        return None
    blocks = [body for name, body in _FENCE.findall(text) if name.casefold() in ("", *languages)]
    return "\n".join(blocks) if blocks else None
