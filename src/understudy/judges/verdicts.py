"""The verdicts of a table, one a row whatever its shape was: arrays to make statistics of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.evaluation.statistics.intervals import Codes, Floats, Mask
from understudy.judges import cells
from understudy.judges.columns import PEOPLE, ColumnRoles, ScoreColumn
from understudy.judges.reading import CodedTable

_NO_ERROR = {"", "0", "0.0", "false", "none", "ok", "scored", "success", "nan"}
_SIDES = {"1": "first", "a": "first", "2": "second", "b": "second"}


class Rater(NamedTuple):
    """A judge asked in one way, or a human; `asked` is the wording, temperature and order."""

    judge: str
    asked: str = ""
    is_human: bool = False


@dataclass(frozen=True)
class Verdicts:
    """N verdicts on A answers to items by raters; an answer is one system's to one item."""

    raters: list[Rater]
    systems: list[str]
    subsets: list[str]
    dimensions: list[str]
    reasons: list[str]
    score: Floats  # (N,) NaN where there is none
    reason: Codes  # (N,) why there is none
    answer: Codes  # (N,)
    rater: Codes  # (N,)
    dimension: Codes  # (N,)
    repeat: Codes  # (N,) of one rater on one answer, from 0
    item: Codes  # (A,)
    cluster: Codes  # (A,)
    system: Codes  # (A,)
    subset: Codes  # (A,)
    length: Floats  # (A,) or NaN
    right: Mask  # (A,) the answer that is known to be right
    top: float | None  # of the scale, where cells say it
    notes: list[str]


@dataclass(frozen=True)
class Contests:
    """N verdicts on pairs of answers; the first of a pair is the one listed first."""

    raters: list[Rater]
    systems: list[str]
    reasons: list[str]
    wins: Floats  # (N,) 1 the first, 0 the second, .5 a tie, NaN none
    reason: Codes  # (N,)
    rater: Codes  # (N,)
    pair: Codes  # (N,) item and both systems
    cluster: Codes  # (N,)
    first: Codes  # (N,) into `systems`; -1 where nobody says
    second: Codes  # (N,)
    is_swapped: Mask  # (N,) the second was shown first
    right: Floats  # (N,) as `wins`
    notes: list[str]


class _Names:
    """Texts and their numbers."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def of(self, name: Any) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def all(self) -> list[Any]:
        return list(self.numbers)


def of_scores(table: CodedTable, roles: ColumnRoles, right: str | None = None) -> Verdicts:
    """The verdicts in the columns of scores."""
    item, _ = _combined(table, [*roles.roles.get("subset", ()), *roles.roles.get("item", ())])
    if not roles.roles.get("item"):
        item = np.arange(table.rows)
    cluster = _combined(table, roles.roles.get("group", ()))[0] if roles.one("group") else item
    subset, subsets = _combined(table, roles.roles.get("subset", ())[:1])
    identity, _ = _combined(table, roles.roles.get("answer", ()))
    judges, judge_names = _combined(table, roles.roles.get("judge", ()))
    people = _people(table, roles, judge_names, judges)
    asked, asked_names = _asked(table, roles)
    dimension, dimension_names = _combined(table, roles.roles.get("dimension", ()))
    repeat, _ = _combined(table, roles.roles.get("repeat", ()))
    systems, raters, dimensions, reasons = _Names(), _Names(), _Names(), _Names()
    errors = _errors(table, roles)
    parts: dict[str, list[NDArray[Any]]] = {}
    kinds, kind = _firsts(judges, asked, people)
    tops = [one for one in (_top(table, column) for column in roles.scores) if one]
    scale = max(tops, default=None)
    for place, column in enumerate(roles.scores):
        coded = table.columns[column.column]
        keep = np.ones(table.rows, dtype=bool)
        if coded.is_place or column.is_human:
            keep = coded.codes >= 0
        score, reason = _scored(table, column, scale if len(set(tops)) > 1 else None, reasons)
        reason = _with_errors(reason, score, errors, reasons)
        made_raters = [
            raters.of(
                _rater(column, judge_names[judges[n]], asked_names[asked[n]], bool(people[n]))
            )
            for n in kinds
        ]
        rater = np.array(made_raters)[kind]
        what = np.array([dimensions.of(column.dimension or name) for name in dimension_names])
        made = {
            "score": score, "reason": reason, "item": item, "cluster": cluster, "subset": subset,
            "identity": identity, "rater": rater, "dimension": what[dimension],
            "system": _systems(table, roles, column, systems), "repeat": repeat,
            "row": np.arange(table.rows), "place": np.full(table.rows, place),
        }  # fmt: skip
        if column.is_human:
            keep &= _first_of(made["item"], made["system"], identity, made["dimension"], keep)
        for name, values in made.items():
            parts.setdefault(name, []).append(values[keep])
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    notes = []
    if roles.one("verdict"):
        whole, copies = _without_copies(table, roles, whole)
        if copies:
            notes.append(
                f"{copies:,} verdicts are copies of another with the same id; each counts once"
            )
    return _assembled(
        table, roles, whole, (raters, systems, dimensions, reasons), subsets, right, scale, notes
    )


def _without_copies(
    table: CodedTable, roles: ColumnRoles, whole: dict[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], int]:
    """The rows without those whose verdict on the same answer by the same rater stands above."""
    verdict, _ = _combined(table, roles.roles["verdict"])
    keys = (whole[name] for name in ("item", "system", "identity", "rater", "dimension", "place"))
    keep = _first_of(*keys, verdict[whole["row"]], np.ones(len(whole["row"]), dtype=bool))
    return {name: values[keep] for name, values in whole.items()}, int((~keep).sum())


def _assembled(
    table: CodedTable,
    roles: ColumnRoles,
    whole: dict[str, NDArray[Any]],
    names: tuple[_Names, _Names, _Names, _Names],
    subsets: list[str],
    right: str | None,
    top: float | None,
    notes: list[str],
) -> Verdicts:
    """Number the answers and the repeats of each rater on each."""
    raters, systems, dimensions, reasons = names
    keys = np.stack([whole["item"], whole["system"], whole["identity"]], axis=1)
    _, first, answer = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    answer = answer.ravel()
    group = _codes(answer, whole["rater"], whole["dimension"])
    order = np.lexsort([whole["place"], whole["row"], whole["repeat"], group])
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    repeat = np.empty(len(order), dtype=np.intp)
    repeat[order] = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    per_row = len({one.column for one in roles.scores if not one.is_human and not one.system})
    if not roles.one("repeat") and per_row == 1 and (again := int((repeat > 0).sum())):
        notes.append(
            f"{again:,} verdicts are of a judge on an answer that it scored before; they count as "
            "repeats (a column that tells them apart is named with wording=COLUMN or item=COLUMN)"
        )
    if "item" not in roles.roles:
        notes.append("no column names the items, so every row is one; item=COLUMN says which does")
    lengths = np.full(len(first), np.nan)
    if (name := roles.one("length")) is not None:
        column = table.columns[name]
        values = np.array([np.nan, *(_number(value) for value in column.values)])
        lengths = values[column.codes + 1][whole["row"][first]]
    found_systems = [str(name) for name in systems.all]
    return Verdicts(
        raters=raters.all, systems=found_systems, subsets=subsets, dimensions=dimensions.all,
        reasons=reasons.all, score=whole["score"], reason=whole["reason"], answer=answer,
        rater=whole["rater"], dimension=whole["dimension"], repeat=repeat,
        item=whole["item"][first], cluster=_codes(whole["cluster"][first]),
        system=whole["system"][first], subset=whole["subset"][first], length=lengths,
        right=_right(table, roles, whole, first, found_systems, right), top=top, notes=notes,
    )  # fmt: skip


def _right(
    table: CodedTable,
    roles: ColumnRoles,
    whole: dict[str, NDArray[Any]],
    first: Codes,
    systems: list[str],
    right: str | None,
) -> Mask:
    """Which answers are right: of the system that the user named, or of the side in a column."""
    named = np.array(systems, dtype=object)[whole["system"][first]]
    if right is not None:
        found: Mask = named == right
        return found
    if (name := roles.one("right")) is None:
        return np.zeros(len(first), dtype=bool)
    column = table.columns[name]
    sides = [cells.winner(value).score for value in column.values]
    wanted = np.array([np.nan, *(np.nan if side is None else side for side in sides)])
    value = wanted[column.codes + 1][whole["row"][first]]
    is_first = np.array([_SIDES.get(str(one)) == "first" for one in named])
    wins: Mask = np.where(is_first, value == 1, value == 0)
    return wins


def of_winners(table: CodedTable, roles: ColumnRoles) -> Contests:
    """The verdicts in the columns of winners."""
    item, _ = _combined(table, [*roles.roles.get("subset", ()), *roles.roles.get("item", ())])
    if not roles.roles.get("item"):
        item = np.arange(table.rows)
    cluster = _combined(table, roles.roles.get("group", ()))[0] if roles.one("group") else item
    judges, judge_names = _combined(table, roles.roles.get("judge", ()))
    people = _people(table, roles, judge_names, judges)
    asked, asked_names = _asked(table, roles)
    systems, raters, reasons = _Names(), _Names(), _Names()
    sides = []
    for role in ("first", "second"):
        name = roles.one(role)
        column = table.columns[name] if name else None
        names = np.array([-1, *(systems.of(str(v)) for v in (column.values if column else ()))])
        sides.append(names[column.codes + 1] if column else np.full(table.rows, -1))
    first, second = sides
    errors = _errors(table, roles)
    right = _of_cells(table, roles.one("right"), first, second, systems.all, _Names())[0]
    held: list[tuple[NDArray[Any], ...]] = []
    kinds, kind = _firsts(judges, asked, people)
    for told in roles.winners:
        wins, reason = _of_cells(table, told.column, first, second, systems.all, reasons)
        reason = _with_errors(reason, wins, errors, reasons)
        made = [
            raters.of(
                Rater(judge_names[judges[n]] or "judge", asked_names[asked[n]], bool(people[n]))
            )
            for n in kinds
        ]
        swapped = np.full(table.rows, bool(told.is_swapped))
        held.append((wins, reason, np.array(made)[kind], swapped, right))
    wins, reason, rater, swapped, right = (
        np.concatenate([one[n] for one in held]) for n in range(5)
    )
    times = len(held)
    first, second, item, cluster = (np.tile(one, times) for one in (first, second, item, cluster))
    # The same two answers shown the other way round are the same pair.
    turned = first > second
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    return Contests(
        raters=raters.all, systems=systems.all, reasons=reasons.all,
        wins=np.where(turned, 1 - wins, wins), reason=reason, rater=rater,
        pair=_codes(item, first, second), cluster=_codes(cluster), first=first, second=second,
        is_swapped=swapped ^ turned, right=np.where(turned, 1 - right, right),
        notes=[] if "item" in roles.roles else ["no column names the items, so every row is one"],
    )  # fmt: skip


def _of_cells(
    table: CodedTable,
    name: str | None,
    first: Codes,
    second: Codes,
    systems: list[Any],
    reasons: _Names,
) -> tuple[Floats, Codes]:
    """Who won in each row, and why nobody did."""
    if name is None:
        return np.full(table.rows, np.nan), np.zeros(table.rows, dtype=np.intp)
    column = table.columns[name]
    read = [cells.winner(None), *map(cells.winner, column.values)]
    wins = np.array([np.nan if one.score is None else one.score for one in read])[column.codes + 1]
    reason = np.array([reasons.of(one.reason) for one in read])[column.codes + 1]
    numbers = {system: number for number, system in enumerate(systems)}
    named = np.array([-2, *(numbers.get(str(value), -2) for value in column.values)])
    told = named[column.codes + 1]
    wins = np.where(told == first, 1.0, np.where(told == second, 0.0, wins))
    return wins, np.where(np.isnan(wins), reason, reasons.of(""))


def _rater(column: ScoreColumn, judge: str, asked: str, is_human: bool) -> Rater:
    if column.is_human:
        return Rater(column.judge, "", True)
    name = column.judge if column.judge and not judge else judge
    how = ", ".join(filter(None, (column.wording, asked)))
    return Rater(name or "judge", "" if is_human else how, is_human)


def _people(
    table: CodedTable, roles: ColumnRoles, names: Sequence[str], judges: Codes
) -> NDArray[np.int64]:
    """(R,): 1 where a row's rater is a human, by its kind or its own name."""
    kind, kinds = _combined(table, roles.roles.get("kind", ()))
    by_kind = np.array([int(PEOPLE.search(name.lower()) is not None) for name in kinds])
    by_name = np.array([int(PEOPLE.search(name.lower()) is not None) for name in names])
    return np.asarray(by_kind[kind] if roles.one("kind") else by_name[judges])


def _asked(table: CodedTable, roles: ColumnRoles) -> tuple[Codes, list[str]]:
    names = [
        name for role in ("wording", "temperature", "order") for name in roles.roles.get(role, ())
    ]
    if not names:
        return _combined(table, names)
    labels = {
        name: [f"{role} {value}" if role != "wording" else str(value)
               for value in ["", *table.columns[name].values]]
        for role in ("wording", "temperature", "order")
        for name in roles.roles.get(role, ())
    }  # fmt: skip
    codes = [table.columns[name].codes for name in names]
    whole = _codes(*codes)
    _, first = np.unique(whole, return_index=True)
    texts = [
        ", ".join(
            labels[name][c[row] + 1] for name, c in zip(names, codes, strict=True) if c[row] >= 0
        )
        for row in first
    ]
    return whole, texts


def _systems(table: CodedTable, roles: ColumnRoles, column: ScoreColumn, systems: _Names) -> Codes:
    """(R,): who answered, by the score's column or by a column of names."""
    name = roles.one("system")
    if column.system:
        name = roles.one(_SIDES[column.system])
    if name is None:
        return np.full(table.rows, systems.of(column.system or "all"))
    coded = table.columns[name]
    numbers = np.array([systems.of(str(value)) for value in coded.values] + [-1])
    if (coded.codes < 0).any():
        numbers[-1] = systems.of("not named")
    return numbers[coded.codes]


def _top(table: CodedTable, column: ScoreColumn) -> float | None:
    tops = [cells.score(value).top for value in table.columns[column.column].values]
    return max((top for top in tops if top is not None), default=None)


def _scored(
    table: CodedTable, column: ScoreColumn, top: float | None, reasons: _Names
) -> tuple[Floats, Codes]:
    """The scores of a column and why there is none; of several scales the widest, `top`, counts."""
    coded = table.columns[column.column]
    read = [cells.score(None), *map(cells.score, coded.values)]
    own = {one.top for one in read if one.top is not None}
    if len(own) > 1:
        top = max(own) if top is None else top
    values = [
        np.nan if one.score is None
        else one.score * top / one.top if top is not None and one.top else one.score
        for one in read
    ]  # fmt: skip
    numbers = np.array([reasons.of(one.reason) for one in read])
    return np.array(values)[coded.codes + 1], numbers[coded.codes + 1]


def _errors(table: CodedTable, roles: ColumnRoles) -> NDArray[Any]:
    """(R,) texts of the column that says why there is no score; empty without one."""
    if (name := roles.one("error")) is None:
        return np.array([], dtype=object)
    column = table.columns[name]
    texts = [str(value).strip() for value in column.values]
    texts = ["" if text.casefold() in _NO_ERROR else text for text in texts]
    return np.array(["", *texts], dtype=object)[column.codes + 1]


def _with_errors(reason: Codes, values: Floats, errors: NDArray[Any], reasons: _Names) -> Codes:
    """Why there is no value: the row's own error goes before what its cell says."""
    if not len(errors):
        return reason
    own = np.array([reasons.of(one) for one in errors.tolist()])
    found: Codes = np.where(np.isnan(values) & (errors != ""), own, reason)
    return found


def _combined(table: CodedTable, names: Sequence[str]) -> tuple[Codes, list[str]]:
    """(R,): numbers of what some columns hold together, and its words."""
    if not names:
        return np.zeros(table.rows, dtype=np.intp), [""]
    codes = [table.columns[name].codes for name in names]
    whole = _codes(*codes)
    _, first = np.unique(whole, return_index=True)
    held = [[*map(str, table.columns[name].values), ""] for name in names]
    texts = [
        " · ".join(filter(None, (v[c[row]] for v, c in zip(held, codes, strict=True))))
        for row in first
    ]
    return whole, texts


def _codes(*columns: NDArray[Any]) -> Codes:
    """Numbers from 0 of the rows that are alike in all columns."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        shifted = column.astype(np.int64) - int(column.min(initial=0))
        key = np.unique(key, return_inverse=True)[1] * (int(shifted.max(initial=0)) + 1) + shifted
    return np.unique(key, return_inverse=True)[1]


def _firsts(*columns: NDArray[Any]) -> tuple[Codes, Codes]:
    """A row of each kind, and which kind every row is of."""
    whole = _codes(*columns)
    return np.unique(whole, return_index=True)[1], whole


def _first_of(*columns: NDArray[Any]) -> Mask:
    """The first row of each kind among those kept, which the last column says."""
    *keys, keep = columns
    found = np.zeros(len(keep), dtype=bool)
    rows = np.flatnonzero(keep)
    if len(rows):
        found[rows[np.unique(_codes(*(one[rows] for one in keys)), return_index=True)[1]]] = True
    return found


def _number(value: Any) -> float:
    score = cells.score(value).score
    return np.nan if score is None else score


def unscored(verdicts: Verdicts | Contests, rater: int) -> Counter[str]:
    """Why verdicts of a rater are missing, each with its number."""
    values = verdicts.score if isinstance(verdicts, Verdicts) else verdicts.wins
    gone = verdicts.reason[(verdicts.rater == rater) & np.isnan(values)]
    return Counter(
        {verdicts.reasons[code]: int(n) for code, n in enumerate(np.bincount(gone)) if n}
    )
