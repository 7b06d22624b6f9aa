"""How rows are named: by what is said in them, so that the same conversation has the same name.

Apart from the stage of coverage, since `collect` names a million rows and needs nothing else of it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from understudy.records import Message, Tool, shown
from understudy.store.artifacts import canonical


def digest(messages: list[Message], tools: list[Tool] | None = None, form: Any = None) -> bytes:
    """Return the SHA-256 of a conversation, with the tools and the form of answer if it has any.

    The weights of turns do not count: a row that gets some keeps its name.
    """
    said: Any = shown(messages)
    if tools or form:
        said = [said, tools, form]
    return hashlib.sha256(canonical(said).encode()).digest()


def row_ids(conversations: Iterable[list[Message]]) -> list[str]:
    """Return the names of rows that are nothing but messages."""
    return names_of(map(digest, conversations))


def names_of(digests: Iterable[bytes]) -> list[str]:
    """Of each digest its begin, with the number of its earlier occurrences."""
    seen: Counter[str] = Counter()
    ids = []
    for whole in digests:
        name = whole.hex()[:16]
        ids.append(f"{name}-{seen[name]}")
        seen[name] += 1
    return ids
