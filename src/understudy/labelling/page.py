"""The page on which humans label: one file, no network, nothing that says whose answer it is."""

import json
from collections.abc import Sequence
from pathlib import Path

from understudy.evaluation.labels import ends_of
from understudy.labelling.draw import Draw, Shown

_TEMPLATE = Path(__file__).with_name("page.html")


def page(draw: Draw, shown: Sequence[Shown], mark: str) -> str:
    """Return the page; `mark` keeps the browser's memory of this draw apart from others'."""
    low, top = (int(end) for end in ends_of(draw.scale))
    values = {
        "mark": mark, "low": low, "top": top, "rubric": draw.rubric,
        "items": [
            {"item": item.item, "prompt": texts.prompt, "a": texts.a, "b": texts.b}
            for item, texts in zip(draw.items, shown, strict=True)
        ],
    }  # fmt: skip
    # Within a script element only "<" could end it or begin another; U+2028 ends a line of old JS.
    text = json.dumps(values, ensure_ascii=True).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", text)
