"""Prompt templates, each beside the function that renders it and the one that parses its reply."""

from pathlib import Path
from string import Template

_HERE = Path(__file__).parent


def read_template(name: str) -> Template:
    """The template file `name`.txt of this directory."""
    return Template((_HERE / f"{name}.txt").read_text(encoding="utf-8").strip())


def storable(text: str) -> str:
    """The text without lone surrogates, which JSON escapes can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
