"""The fences that models put around code and data in an answer."""

import re

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)


def fenced(text: str, *languages: str) -> str | None:
    """Return what stands in the fences of one of these languages, or of none named; None without.

    Several blocks are joined, as a model that explains its code between them means it.
    """
    if "```" not in text:
        return None
    blocks = [body for name, body in _FENCE.findall(text) if name.casefold() in ("", *languages)]
    return "\n".join(blocks) if blocks else None
