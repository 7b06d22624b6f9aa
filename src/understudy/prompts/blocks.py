"""Labelled data blocks whose end no text inside them can forge.

    --- begin Answer 1 (5f0c2a9e) ---
    any text
    --- end Answer 1 (5f0c2a9e) ---

The mark in brackets is a hash of all blocks, so equal blocks give equal prompts (journal keys and
fingerprints stay stable), taken so that it occurs in none of the texts.
"""

import hashlib
import json
import re
from collections.abc import Mapping

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9 ]*")
_BLOCK = re.compile(
    r"^--- begin (?P<label>[A-Za-z0-9 ]+) \((?P<mark>[0-9a-f]{8})\) ---\n"
    r"(?P<text>.*?)"
    r"\n--- end (?P=label) \((?P=mark)\) ---$",
    re.MULTILINE | re.DOTALL,
)


def fence(texts: Mapping[str, str]) -> dict[str, str]:
    """The block of every label; all blocks of one prompt are fenced together."""
    for label in texts:
        assert _LABEL.fullmatch(label), f"{label!r} is no label: letters, digits, single line"
    mark = _mark(texts)
    return {
        label: f"--- begin {label} ({mark}) ---\n{text}\n--- end {label} ({mark}) ---"
        for label, text in texts.items()
    }


def _mark(texts: Mapping[str, str]) -> str:
    attempt = 0
    while True:
        content = json.dumps([attempt, list(texts.items())])
        mark = hashlib.sha256(content.encode()).hexdigest()[:8]
        if not any(mark in part for item in texts.items() for part in item):
            return mark
        attempt += 1


def parse_blocks(prompt: str) -> dict[str, str]:
    """The texts by label; the inverse of `fence`, whatever stands around the blocks."""
    return {match["label"]: match["text"] for match in _BLOCK.finditer(prompt)}
