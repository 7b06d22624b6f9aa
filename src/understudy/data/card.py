"""The dataset card of a training set: what is in it, how it was made, under which terms."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.records import Coverage, Synthetic, dumps


@dataclass(frozen=True)
class Making:
    """How the synthetic rows came to be; `pools` are the summaries of the stages they come from."""

    held_out: Mapping[str, int] = field(default_factory=dict)  # split -> rows that are not in here
    pools: Sequence[Mapping[str, Any]] = ()
    prompt: str | None = None  # the teacher's, without an example
    contaminated: int | None = None  # rows in here that repeat a held-out row
    is_rehearsal: bool = False


def card(
    human: Sequence[Coverage],
    synthetic: Sequence[Synthetic],
    terms: Mapping[str, str | None],
    making: Making | None = None,
) -> str:
    """Markdown as the hub reads it; `terms` = where each known teacher's terms of use stand."""
    rows: list[Coverage | Synthetic] = [*human, *synthetic]
    licences = Counter(row.licence or "not given" for row in rows)
    only = next(iter(licences)).lower() if len(licences) == 1 else "other"
    front = {
        "license": only if re.fullmatch(r"[a-z0-9.-]+", only) else "other",  # an id of the hub's
        "task_categories": ["text-generation"],
        "tags": ["understudy", *(["synthetic"] if synthetic else [])],
    }
    tasks = ", ".join(sorted({row.task for row in rows}))
    lines = [
        "---",
        *(f"{key}: {dumps(value)}" for key, value in front.items()),  # JSON is YAML
        "---",
        "",
        f"# Training set: {len(human)} human and {len(synthetic)} synthetic rows ({tasks})",
        "",
        *_warning(making),
        "| rows | written by | terms on training with its output |",
        "|---|---|---|",
        f"| {len(human)} | humans | – |",
    ]
    for teacher, count in sorted(Counter(row.teacher for row in synthetic).items()):
        lines.append(f"| {count} | {teacher} | {terms.get(teacher) or 'not given'} |")
    lines += ["", "| rows | licence |", "|---|---|"]
    lines += [f"| {count} | {licence} |" for licence, count in sorted(licences.items())]
    lines += [
        "",
        "A synthetic row has the licence of the human row that it was made after; the terms of the",
        "service that wrote it hold beside it.",
        "",
    ]
    if making is not None:
        lines += [*_held_out(making), *(_made(making) if synthetic else [])]
    return "\n".join(lines)


def _warning(making: Making | None) -> list[str]:
    if making is None or not making.is_rehearsal:
        return []
    return ["**A rehearsal: stand-ins were asked, no LLM wrote any of this.**", ""]


def _held_out(making: Making) -> list[str]:
    if not making.held_out:
        return []
    counts = ", ".join(f"{count} {split}" for split, count in sorted(making.held_out.items()))
    lines = [f"Held out, and no row here was made after one of them: {counts} rows."]
    if making.contaminated is not None:
        lines += ["Rows here that repeat one of them (near-duplicates, containment, long runs of"]
        lines += [f"words, lineage): {making.contaminated}."]
    return [*lines, ""]


def _made(making: Making) -> list[str]:
    dropped: Counter[str] = Counter()
    for pool in making.pools:
        dropped.update(pool["dropped"])
    lines = [
        "## How the synthetic rows were made",
        "",
        f"They are the first of a pool of {sum(pool['rows'] for pool in making.pools)} accepted "
        f"rows. {_cost(making.pools)} Refused were:",
        "",
        "| pairs or replies | reason |",
        "|---|---|",
        *(f"| {count} | {reason} |" for reason, count in dropped.most_common()),
        "",
    ]
    if making.prompt is not None:
        lines += ["The teacher's prompt, around one train row:", "", "````"]
        lines += [making.prompt, "````", ""]
    return lines


def _cost(pools: Sequence[Mapping[str, Any]]) -> str:
    paid = [pool for pool in pools if pool.get("usd") is not None]
    rows, usd = sum(pool["rows"] for pool in paid), sum(pool["usd"] for pool in paid)
    if not rows:
        return "What they cost is not known."
    return f"The service's calls cost ${usd:.4f}, ${usd / rows:.6f} an accepted row."
