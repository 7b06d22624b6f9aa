"""What humans said of the answers that judges scored: reading it, and what it means in points.

A run's labels lie in `labels/` beside its run.json: `draw.json` says which prompts were drawn with
which probability and of whose answers, `labels.jsonl` holds the labels of all raters. They are
science: their digest is in the evidence of a look, so another set of labels is another look.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy.errors import BadInput
from understudy.records import HumanLabel, read_rows
from understudy.store.artifacts import digest

FOLDER, DRAW, LABELS = "labels", "draw.json", "labels.jsonl"
ASKED = "asked.json"  # of a judge that labelled: its name and what it cost
SCORED = "scored"
_Answer = tuple[str, str, int]  # prompt, generator, k


class LabelSet(NamedTuple):
    """The labels of a run."""

    rows: list[HumanLabel]
    digest: str
    answers: dict[str, str]  # generator -> stage of the answers that were shown
    asked: dict[str, Any] | None = None  # judge and usd, where no human labelled


def read_labels(run_folder: Path) -> LabelSet | None:
    """Return a run's labels; None where it has none, BadInput where they cannot be read."""
    file = run_folder / FOLDER / LABELS
    if not file.is_file():
        return None
    draw = file.with_name(DRAW)
    try:
        answers = json.loads(draw.read_text(encoding="utf-8"))["answers"]
        paid = file.with_name(ASKED)
        asked = json.loads(paid.read_text(encoding="utf-8")) if paid.is_file() else None
        return LabelSet(list(read_rows(file, HumanLabel)), digest(file), answers, asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} or {draw} cannot be read: {error}") from None


def ends_of(scale: str) -> tuple[float, float]:
    """The ends of "1-5"; raise BadInput for what is no scale."""
    low, _, top = scale.rpartition("-")
    try:
        ends = float(low), float(top)
    except ValueError:
        raise BadInput(f"{scale!r} is no scale; give its ends, like 1-5 or 0-100") from None
    if not ends[0] < ends[1]:
        raise BadInput(f"the scale {scale!r} ends where it begins, or before")
    return ends


def points(label: HumanLabel) -> float | None:
    """A label from 0 to 100; None where it has no score."""
    if label.status != SCORED or label.score is None:
        return None
    low, top = ends_of(label.scale)
    return 100 * (label.score - low) / (top - low)


class HumanScores(NamedTuple):
    """By humans, in points; a prompt is labelled where both sides are."""

    answers: dict[_Answer, float]  # mean over raters
    difference: dict[str, float]  # prompt -> local - service
    weight: dict[str, float]  # prompt -> 1 / probability, of labelled and skipped ones
    skipped: frozenset[str]  # drawn and shown, but without a score of both sides
    is_known: bool  # whether all probabilities are known
    is_pass: bool  # whether all scores are passes or failures
    raters: tuple[str, ...]


def human_scores(
    rows: Sequence[HumanLabel],
    local: str,
    service: str,
    prompts: Collection[str],
    metric: str,
    cut: float | None = None,
) -> HumanScores:
    """Average over raters, then over samples; with a `cut`, an answer is 100 from there, else 0."""
    found: dict[_Answer, list[float]] = defaultdict(list)
    weight: dict[str, float] = {}
    mine = [
        row
        for row in rows
        if row.prompt_id in prompts and row.generator in (local, service) and row.metric == metric
    ]
    for row in mine:
        weight[row.prompt_id] = 1.0 if row.weight is None else row.weight
        if (said := points(row)) is not None:
            found[row.prompt_id, row.generator, row.k].append(said)
    answers = {key: fmean(scores) for key, scores in found.items()}
    if cut is not None:
        answers = {key: 100.0 if score >= cut else 0.0 for key, score in answers.items()}
    sides: dict[str, dict[str, list[float]]] = defaultdict(lambda: {local: [], service: []})
    for (prompt, generator, _), score in answers.items():
        sides[prompt][generator].append(score)
    difference = {
        prompt: fmean(of[local]) - fmean(of[service])
        for prompt, of in sides.items()
        if of[local] and of[service]
    }
    return HumanScores(
        answers,
        difference,
        weight,
        frozenset(weight.keys() - difference.keys()),
        all(row.weight is not None for row in mine),
        all(ends_of(row.scale) == (0.0, 1.0) for row in mine),
        tuple(sorted({row.rater for row in mine})),
    )
