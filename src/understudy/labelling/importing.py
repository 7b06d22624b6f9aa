"""Labels from a file: the page's own JSONL, or a CSV or JSONL of any other tool."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from understudy.errors import BadInput
from understudy.evaluation.labels import SCORED, ends_of
from understudy.labelling.draw import Draw
from understudy.records import HumanLabel

_COLUMNS = "prompt_id, generator, score"


def labels_of(path: Path, draw: Draw, mark: str) -> list[HumanLabel]:
    """Read a file; raise BadInput naming the line that is no label of this run."""
    items = {one.item: one for one in draw.items}
    found: list[HumanLabel] = []
    for number, row in _rows(path):
        place = f"{path}:{number}"
        if "item" not in row:
            found.append(_foreign(row, draw, place))
            continue
        if row.get("draw") != mark or row["item"] not in items:
            raise BadInput(
                f"{place} is of another draw ({row.get('draw')}) than this run's ({mark}); import "
                "it where its page was made"
            )
        one = items[row["item"]]
        if row.get("status") == "unfinished":
            continue
        for side in ("a", "b"):
            generator, k = getattr(one, side)
            score = _score(row.get(side), draw.scale, place)
            found.append(HumanLabel(
                one.prompt_id, generator, k, str(row["rater"]), draw.rubric, "precision",
                draw.scale, score, one.weight, SCORED if score is not None else "skipped",
            ))  # fmt: skip
    if not found:
        raise BadInput(f"{path} holds no label")
    return found


def merged(old: list[HumanLabel], new: list[HumanLabel]) -> list[HumanLabel]:
    """All labels by key; the newer of two with one key counts."""
    rows = {row.key: row for row in [*old, *new]}
    return [rows[key] for key in sorted(rows)]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if not text.lstrip().startswith("{"):
        yield from enumerate(csv.DictReader(text.splitlines()), 2)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise BadInput(f"{path}:{number} is no JSON object")
            yield number, row


def _foreign(row: dict[str, Any], draw: Draw, place: str) -> HumanLabel:
    missing = [name for name in _COLUMNS.split(", ") if row.get(name) is None and name != "score"]
    if missing or "score" not in row:
        raise BadInput(f"{place} lacks {', '.join(missing) or 'score'}; it needs {_COLUMNS}")
    generator, prompt = str(row["generator"]), str(row["prompt_id"])
    if generator not in draw.answers:
        known = " or ".join(draw.answers)
        raise BadInput(f"{place} is of generator {generator!r}; this run has {known}")
    scale = str(row.get("scale") or draw.scale)
    score = _score(row["score"], scale, place)
    drawn = {one.prompt_id: one.weight for one in draw.items}
    weight = _number(row.get("weight"), f"{place}: weight")
    chance = _number(row.get("probability"), f"{place}: probability")
    if chance is not None and not 0 < chance <= 1:
        raise BadInput(f"{place}: probability={chance:g} is none; it is above 0 and at most 1")
    if weight is None:
        weight = drawn.get(prompt) if chance is None else 1 / chance
    k = _number(row.get("k"), f"{place}: k") or 0
    return HumanLabel(
        prompt, generator, int(k), str(row.get("rater") or "unnamed"),
        str(row.get("rubric") or draw.rubric), str(row.get("metric") or "precision"), scale, score,
        weight, SCORED if score is not None else str(row.get("status") or "skipped"),
    )  # fmt: skip


def _score(value: Any, scale: str, place: str) -> float | None:
    score = _number(value, f"{place}: score")
    low, top = ends_of(scale)
    if score is not None and not low <= score <= top:
        raise BadInput(f"{place}: score={score:g} is outside the scale {scale}")
    return score


def _number(value: Any, place: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadInput(f"{place}={value!r} is no number") from None
