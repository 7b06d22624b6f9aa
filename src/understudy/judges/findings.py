"""The sentences about a study of judges that a reader wants first."""

from collections.abc import Iterator

from understudy.judges.study import JudgeStudy, Row

_FIRST = 5  # rows of a table that are told


def findings(made: JudgeStudy) -> Iterator[str]:
    """Yield the sentences that a reader wants first."""
    for row in made.tables.get("replaced", ())[:_FIRST]:
        if row["subset"] == "all":
            yield (
                f"{_where(row)}{row['old']} → {row['new']}: {row['first']:.2f} → "
                f"{row['second']:.2f} on {row['answers']:,} answers that both scored, Spearman "
                f"{_number(row['rho'])}; {row['bridge'] or 0:,} answers scored by both give the "
                "shift to 1 % of the scale"
            )
    for row in made.tables.get("repeats", ())[:_FIRST]:
        needed = row["repeats for answers"]
        yield (
            f"{_where(row)}{row['judge']}: one verdict has a reliability of "
            f"{_number(row['reliability of one'])}, so .9 needs "
            + (f"{needed} verdict{'s' * (needed > 1)} an answer" if needed else "more than repeats")
        )
    for row in made.tables.get("humans", ())[:_FIRST]:
        yield (
            f"{_where(row)}{row['judge']} and {row['humans']}: Spearman {_number(row['rho'])} on "
            f"{row['answers']:,} answers"
        )
    for row in made.tables.get("pairs", ())[:_FIRST]:
        if row["same"] is not None:
            yield (
                f"{_where(row)}{row['judge']}: the same winner in both orders of {row['same']:.1%} "
                f"of {row['both_orders']:,} pairs, and the first shown wins {row['place']:.1%}"
            )


def _where(row: Row) -> str:
    parts = [str(row[name]) for name in ("table", "board", "asked") if row.get(name)]
    return f"{', '.join(parts)}: " if parts else ""


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
