"""The dataset card of a training set: what is in it, under which licences and terms."""

from collections import Counter
from collections.abc import Mapping, Sequence

from understudy.records import Coverage, Synthetic, dumps


def card(
    human: Sequence[Coverage], synthetic: Sequence[Synthetic], terms: Mapping[str, str | None]
) -> str:
    """Markdown as the hub reads it; `terms` = where each known teacher's terms of use stand."""
    rows: list[Coverage | Synthetic] = [*human, *synthetic]
    licences = Counter(row.licence or "not given" for row in rows)
    front = {
        "license": next(iter(licences)).lower() if len(licences) == 1 else "other",
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
    return "\n".join(lines)
