"""What graders ignore of texts."""

import unicodedata
from collections.abc import Callable, Collection

from understudy.config.grader import Ignored


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
