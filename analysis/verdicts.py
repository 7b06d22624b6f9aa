"""The page of a study of judges: CSV tables with every digit, figures, and what to read first.

`understudy judges FILE` calls it; the statistics are `understudy.judges`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import seaborn as sns

from understudy.store.artifacts import write_atomically

from . import assemble, draw, labels, tables
from .tables import Column, Row

if TYPE_CHECKING:  # an annex can be taken away
    from understudy.judges.study import JudgeStudy

_SHOWN = 40  # rows of a table on the page; the CSV has all
_PANELS = 6  # of a figure
_LINES = 8  # series of a panel


class Section(NamedTuple):
    """A table of the page."""

    name: str  # of the rows, and of the CSV
    title: str
    columns: Sequence[Column]
    words: str


def _text(name: str, heading: str) -> Column:
    return Column(heading, lambda row: str(row.get(name) or labels.MISSING), is_number=False)


def _count(name: str, heading: str) -> Column:
    return Column(heading, lambda row: labels.count(row.get(name)))


def _share(name: str, heading: str, digits: int = 1) -> Column:
    return tables.value(name, heading, digits, 100)


_WHERE = [_text("table", "Table"), _text("board", "What"), _text("subset", "Subset"),
          _text("asked", "Asked")]  # fmt: skip
_MOVED = [
    _count("answers", "Answers"), tables.value("first", "Mean", 2),
    tables.value("second", "then", 2),
    tables.value("shift", "Shift", 2), tables.value("sd", "SD of shifts", 2),
    tables.value("rho", "Spearman ρ", 3), _share("same", "Same score %"),
    tables.value("tau", "τ of systems", 2), tables.value("of_systems", "SD between systems", 2),
]  # fmt: skip
SECTIONS = (
    Section("judges", "Use of the scale", [
        *_WHERE, _text("judge", "Judge"), _text("scale", "Scale"), _count("verdicts", "Verdicts"),
        _count("unscored", "Unscored"), tables.value("mean", "Mean", 2),
        tables.value("leniency", "Leniency", 2), tables.value("sd", "SD", 2),
        tables.value("most given", "Most given", 0), _share("most given share", "given in %"),
        _share("at top", "At top %"), _count("distinct", "Values used"), _share("ties", "Ties %"),
    ], "Leniency: a judge's mean minus the panel's, on the answers that all judges scored. "
       "Ties: the chance that two of its verdicts are equal, so that they decide nothing."),
    Section("replaced", "A judge replaced by another", [
        *_WHERE, _text("old", "Old"), _text("new", "New"), *_MOVED,
        _count("bridge", "Bridge answers"),
    ], "On the answers that both scored, equal texts only where the table tells answers apart. "
       "Bridge answers: so many, drawn at random and scored by both, give the mean shift to ± 1 % "
       "of the scale (95 %). SD between systems: of their own shifts, beyond the common one."),
    Section("choices", "Does the right answer win", [
        *_WHERE, _text("judge", "Judge"), _count("repeats", "Repeats"), _count("items", "Items"),
        _share("right", "Right %"), _share("tied", "Tied at the top %"),
    ], "A tie, or a right answer without a score, is wrong."),
    Section("repeats", "Repeats", [
        *_WHERE, _text("judge", "Judge"), _count("answers", "Answers"),
        tables.value("reliability of one", "ICC(1)", 3),
        tables.value("reliability of 4", "of 4", 3), tables.value("reliability of 8", "of 8", 3),
        tables.value("sd of repeats", "SD of repeats", 2),
        tables.value("sd of answers", "SD of answers", 2), _share("same again", "Same again %"),
        _count("repeats for answers", "For answers"), _count("repeats for means", "For means"),
    ], "ICC(1): of the variance of single verdicts, the part between answers. For answers: repeats "
       "whose mean has a reliability of .9. For means: repeats with which the interval of a mean "
       "over answers is at most 5 % wider than with endless ones."),
    Section("humans", "Beside humans", [
        *_WHERE, _text("judge", "Judge"), _text("humans", "Humans"),
        _count("people", "People"), _count("repeats", "Repeats"), _count("answers", "Answers"),
        tables.value("rho", "Spearman ρ", 3), tables.value("r", "Pearson r", 3),
        tables.value("bias", "Bias", 2), tables.value("of_systems", "ρ of systems", 2),
    ], "The judge's mean against the humans' mean on the same answers. A human against the others "
       "of the kind shows what a judge can reach. Bias is missing where their scales differ."),
    Section("wording", "Asked in another way", [
        *_WHERE[:2], _text("judge", "Judge"), _text("usual", "Usual"),
        _text("other", "Other"), *_MOVED,
    ], "One judge on the same answers: the other way minus the usual one."),
    Section("agreement", "Agreement", [
        *_WHERE, _count("judges", "Judges"), _count("answers", "Answers"),
        _count("by all", "Scored by all"), tables.value("alpha", "Krippendorff α", 3),
        tables.value("alpha ordinal", "α, ordinal", 3), tables.value("icc a1", "ICC(A,1)", 3),
        tables.value("icc ak", "ICC(A,k)", 3),
        tables.value("effective judges at least", "Effective judges, at least", 2),
    ], "α uses all answers that two judges scored, ICC those that all scored."),
    Section("pairs", "Pairs of answers", [
        *_WHERE, _text("judge", "Judge"), _count("verdicts", "Verdicts"),
        _count("unscored", "Unscored"), _share("tied", "Ties %"), _share("right", "Right %"),
        _share("right_twice", "Right in both orders %"),
        _share("same", "Same in both orders %"), _share("place", "First shown wins %"),
    ], "Same in both orders: pairs that were shown both ways and have one winner."),
    Section("pair agreement", "Agreement on pairs", [
        *_WHERE, _count("judges", "Judges"), tables.value("alpha", "Krippendorff α", 3),
    ], "A tie lies between the two wins."),
    Section("wins", "Wins of systems", [
        *_WHERE, _text("judge", "Judge"), _text("system", "System"), _count("verdicts", "Verdicts"),
        _share("wins", "Wins %"),
    ], "Ties count as halves."),
    Section("length", "Length", [
        *_WHERE, _text("judge", "Judge"),
        tables.value("points for twice the length", "Points for twice the length", 2),
    ], "Within items and systems. An association: longer answers may be better."),
    Section("missing", "Verdicts without a score", [
        *_WHERE, _text("judge", "Judge"), _text("reason", "Reason"), _count("unscored", "Unscored"),
        _count("verdicts", "of verdicts"), _share("share", "%", 2),
    ], "Left out of all numbers above, never 0."),
    Section("columns", "What the columns were taken for", [
        _text("table", "Table"), _text("column", "Column"), _text("taken for", "Taken for"),
    ], "ROLE=COLUMN on the command line says otherwise."),
)  # fmt: skip


def write_judges(study: "JudgeStudy", title: str, command: str, out: Path) -> Path:
    """Write `judges.html`, a CSV for each table and the figures; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for section in SECTIONS:
        rows = study.tables.get(section.name)
        if not rows:
            continue
        file = f"{section.name.replace(' ', '_')}.csv"
        text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
        write_atomically(out / file, text)
        columns = [one for one in section.columns if _says(one, rows)]
        sections.append(
            {
                "id": section.name.replace(" ", "-"), "title": section.title, "file": file,
                "words": section.words, "more": len(rows) - _SHOWN,
                "heads": [(one.heading, one.is_number) for one in columns],
                "rows": [
                    [(one.text(row), one.is_number) for one in columns] for row in rows[:_SHOWN]
                ],
            }
        )  # fmt: skip
    figures = []
    for name, caption, figure in _figures(study):
        draw.save(figure, out / f"{name}.png")
        figures.append((caption, draw.svg(figure, name)))
    page = out / "judges.html"
    made = assemble.template("verdicts.html.j2").render(
        title=title, command=command, study=study, sections=sections, figures=figures, labels=labels
    )
    write_atomically(page, made)
    return page


def _says(column: Column, rows: Sequence[Row]) -> bool:
    """Whether a column holds anything."""
    return any(column.text(row) not in (labels.MISSING, "") for row in rows)


def _figures(study: "JudgeStudy") -> Iterator[tuple[str, str, Any]]:
    """Name, caption and figure of everything that can be drawn."""
    makers: tuple[tuple[str, str, Callable[[JudgeStudy], Any]], ...] = (
        ("scale", "How often each judge gives each score.", _histograms),
        ("replaced", "New judge minus old, per cent of the scale, with 95 % intervals.", _shifts),
        ("choices", "How often the right answer gets the highest score, by repeats.", _curves),
        ("humans", "Spearman's ρ with the humans' mean, with 95 % intervals.", _people),
        ("pairs", "Right in both orders, and the same winner in both.", _pairs),
    )
    for name, caption, make in makers:
        if (figure := make(study)) is not None:
            yield name, caption, figure


def _place(row: Row) -> str:
    parts = [row.get(name) for name in ("table", "board", "asked")]
    return ", ".join(str(part) for part in parts if part)


def _histograms(study: "JudgeStudy") -> Any:
    if not study.histograms:
        return None
    frame = pd.DataFrame(study.histograms)
    frame["place"] = [_place(row) for row in study.histograms]
    places = list(dict.fromkeys(frame["place"]))[:_PANELS]
    with draw.canvas(len(places), min(3, len(places)), "", False, 2.6) as (figure, axes):
        looks = labels.looks(frame["judge"])
        for ax, place in zip(axes, places, strict=True):
            here = frame[frame["place"] == place]
            judges = list(dict.fromkeys(here["judge"]))[:_LINES]
            for judge in judges:
                rows = here[here["judge"] == judge]
                sns.lineplot(
                    x=rows["score"], y=100 * rows["share"], ax=ax, marker="o", markersize=3,
                    color=looks[judge].colour, label=judge, legend=False,
                )  # fmt: skip
            ax.set(title=draw.wrapped(place, 40), xlabel="score", ylabel="% of its verdicts")
        _legend(figure, axes)
    return figure


def _legend(figure: Any, axes: Any) -> None:
    found = [ax.get_legend_handles_labels() for ax in axes]
    names = {name: one for ones in found for one, name in zip(*ones, strict=True)}
    draw.legend(figure, list(names.values()))


def _forest(
    rows: Sequence[Row], name: str, label: Callable[[Row], str], axis: str,
    scale: Callable[[Row], float],
) -> Any:  # fmt: skip
    """A line for each row: its value and interval."""
    known = [row for row in rows if row.get(name) is not None][: 3 * _LINES]
    if not known:
        return None
    with draw.canvas(1, 1, "", False, 0.6 + 0.24 * len(known)) as (figure, axes):
        figure.set_size_inches(8.6, 1.2 + 0.24 * len(known))
        ax = axes[0]
        for place, row in enumerate(known):
            unit = scale(row)
            mean, low, high = (row[key] for key in (name, f"{name}.low", f"{name}.high"))
            bars = (
                [[0.0], [0.0]] if low is None else [[(mean - low) * unit], [(high - mean) * unit]]
            )
            ax.errorbar([mean * unit], [place], xerr=bars, marker="o", ms=4, capsize=3, ls="none",
                        color=labels.JUDGES[0])  # fmt: skip
        ax.set_yticks(range(len(known)), [label(row)[:90] for row in known], fontsize=7)
        ax.set(xlabel=axis)
        ax.set_ylim(len(known) - 0.4, -0.6)
    return figure


def _shifts(study: "JudgeStudy") -> Any:
    rows = [row for row in study.tables.get("replaced", ()) if row["subset"] == "all"]

    def per_cent(row: Row) -> float:
        low, _, top = row["scale"].partition("–")
        return 100 / (float(top) - float(low))

    def name(row: Row) -> str:
        return f"{row['old']} → {row['new']}" + (f" ({_place(row)})" if _place(row) else "")

    return _forest(rows, "shift", name, "shift, % of the scale", per_cent)


def _people(study: "JudgeStudy") -> Any:
    rows = sorted(study.tables.get("humans", ()), key=lambda row: -(row["rho"] or -1))

    def name(row: Row) -> str:
        return f"{row['judge']} × {row['repeats']} and {row['humans']} ({_place(row)})"

    return _forest(rows, "rho", name, "Spearman's ρ", lambda row: 1.0)


def _pairs(study: "JudgeStudy") -> Any:
    rows = sorted(study.tables.get("pairs", ()), key=lambda row: -(row["same"] or 0))
    rows = [row for row in rows if row["same"] is not None]
    return _forest(
        rows, "same", lambda row: f"{row['judge']} ({row['asked']})",
        "same winner in both orders, %", lambda row: 100.0,
    )  # fmt: skip


def _curves(study: "JudgeStudy") -> Any:
    rows = study.tables.get("choices", ())
    if not any(row["repeats"] > 1 for row in rows):
        return None
    frame = pd.DataFrame(rows)
    frame["place"] = [_place(row) for row in rows]
    places = list(dict.fromkeys(frame["place"]))[:_PANELS]
    with draw.canvas(len(places), min(3, len(places)), "", False, 2.8) as (figure, axes):
        looks = labels.looks(frame["judge"])
        for ax, place in zip(axes, places, strict=True):
            here = frame[frame["place"] == place]
            for judge in list(dict.fromkeys(here["judge"]))[:_LINES]:
                one = here[here["judge"] == judge]
                sns.lineplot(x=one["repeats"], y=100 * one["right"], ax=ax, marker="o",
                             color=looks[judge].colour, label=judge, legend=False)  # fmt: skip
                ax.fill_between(one["repeats"], 100 * one["right.low"], 100 * one["right.high"],
                                color=looks[judge].colour, alpha=0.15, lw=0)  # fmt: skip
            ax.set(title=draw.wrapped(place, 40), xlabel="verdicts per answer", ylabel="right, %")
        _legend(figure, axes)
    return figure
