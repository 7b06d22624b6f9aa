"""From verdict tables to the rows of a judge report: scale, repeats, agreement, bridges.

Judges are compared where they scored the same answers, asked in the same way.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import BadInput
from understudy.evaluation.panel import Panel, nan_mean
from understudy.evaluation.statistics.agreement import icc, krippendorff_alpha
from understudy.evaluation.statistics.intervals import DRAWS, Codes, Floats, Interval, Mask
from understudy.evaluation.statistics.leniency import scale_use
from understudy.evaluation.statistics.ranking import effective_judges
from understudy.judges import columns, measure, pairs, reading, verdicts
from understudy.judges.boards import Board, Humans, aligned, as_panel, boards, humans_of
from understudy.judges.columns import ColumnRoles
from understudy.judges.reading import CodedTable
from understudy.judges.verdicts import Contests, Rater, Verdicts

Row = dict[str, Any]
_MOST = 24  # raters of a panel that are compared pair by pair
_FEWEST = 20  # common answers for which a pair is worth a row
_USUAL = re.compile(r"(base|default|usual|vanilla|standard|plain)", re.I)  # wordings
_LADDER = (1, 2, 3, 4, 5, 8, 10, 16, 20, 32, 64)


@dataclass(frozen=True)
class Options:
    """What the user said beside the columns."""

    columns: Sequence[str] = ()
    right: str | None = None
    scale: tuple[float, float] | None = None  # from where to where judges score
    draws: int = DRAWS


@dataclass
class JudgeStudy:
    """Everything that tables of verdicts say: rows by the name of the table they belong to."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    verdicts: int = 0
    unscored: int = 0
    histograms: list[Row] = field(default_factory=list)

    def add(self, name: str, row: Row) -> None:
        """Append a row whose intervals become three values each."""
        flat: Row = {}
        for key, value in row.items():
            if isinstance(value, Interval):
                flat |= {key: value.mean, f"{key}.low": value.low, f"{key}.high": value.high}
            else:
                flat[key] = value
        self.tables.setdefault(name, []).append(flat)


def study(path: Path, options: Options) -> JudgeStudy:
    """Read a file or a folder of files and measure; BadInput where no table holds a verdict."""
    made = JudgeStudy()
    files, others = reading.files(path)
    for other in others:
        made.notes.append(f"{other.relative_to(path)} is no table and was not read")
    seen = 0
    for file in files:
        table = reading.read(file)
        name = file.name if path.is_dir() else ""
        words = [word for word in options.columns if not path.is_dir() or _has(table, word)]
        roles = columns.detect(table, columns.given_roles(words, table))
        _note_columns(made, name, table, roles)
        if not roles.winners and all(one.is_human for one in roles.scores):
            made.notes.append(f"{file.name} holds no judge's verdict, so nothing is measured of it")
            continue
        seen += 1
        if roles.winners:
            _contests(made, name, verdicts.of_winners(table, roles), options.draws)
        if any(not one.is_human for one in roles.scores):
            _scores(made, name, verdicts.of_scores(table, roles, options.right), options)
    if not seen:
        shown = ", ".join(sorted({row["column"] for row in made.tables.get("columns", ())}))
        raise BadInput(
            f"{path} has no column of scores or winners among {shown}; name one with score=COLUMN"
        )
    return made


def _has(table: CodedTable, word: str) -> bool:
    """Whether a table of a folder has the columns that a word names."""
    names = word.partition("=")[2].split(",")
    return all(any(one == n or one.startswith(f"{n}[") for one in table.columns) for n in names)


def _note_columns(made: JudgeStudy, name: str, table: CodedTable, roles: ColumnRoles) -> None:
    """What every column was taken for."""
    uses = {column: role for role, those in roles.roles.items() for column in those}
    uses |= {one.column: "human" if one.is_human else "score" for one in roles.scores}
    uses |= {one.column: "winner" for one in roles.winners}
    uses |= {column: f"ignored: {why}" for column, why in roles.ignored.items()}
    uses |= dict.fromkeys(roles.unknown, "unknown, not read")
    told = set()
    for column, use in uses.items():
        root = re.sub(r"\[\d+\]$", "", column)
        if root not in told:
            told.add(root)
            made.add("columns", {"table": name, "column": root, "taken for": use})
    label = f"{name}: " if name else ""
    if roles.unknown:
        made.notes.append(f"{label}columns that nobody knows: {', '.join(roles.unknown)}")
    for problem, count in table.bad.items():
        made.notes.append(f"{label}{count:,} rows could not be read: {problem} ({table.first_bad})")


def _scores(made: JudgeStudy, name: str, found: Verdicts, options: Options) -> None:
    label = f"{name}: " if name else ""
    made.notes += [label + note for note in found.notes]
    if options.right is not None and not found.right.any():
        systems = ", ".join(found.systems[:12])
        raise BadInput(f"--right {options.right} is no system; there are {systems}")
    made.verdicts += len(found.score)
    made.unscored += int(np.isnan(found.score).sum())
    _missing(made, {"table": name} if name else {}, found)
    for board in boards(name, found, options.scale is not None):
        _board(made, board, options)


def _missing(made: JudgeStudy, head: Row, found: Verdicts | Contests) -> None:
    values = found.score if isinstance(found, Verdicts) else found.wins
    for number, rater in enumerate(found.raters):
        asked = int((found.rater == number).sum())
        for reason, count in verdicts.unscored(found, number).items():
            if isinstance(found, Contests) or not rater.is_human:
                row = head | _names(rater) | {"verdicts": asked, "unscored": count}
                made.add("missing", row | {"share": count / asked, "reason": reason})
    assert len(values) == len(found.rater)


def _names(rater: Rater) -> Row:
    return {"judge": rater.judge} | ({"asked": rater.asked} if rater.asked else {"asked": ""})


def _board(made: JudgeStudy, board: Board, options: Options) -> None:
    here = board.raters()
    raters = board.found.raters
    groups: dict[str, list[int]] = {}
    for number in here:
        groups.setdefault("" if raters[number].is_human else raters[number].asked, []).append(
            number
        )
    people = humans_of(board, [n for n in here if raters[n].is_human])
    for asked, members in groups.items():
        judges = [n for n in members if not raters[n].is_human]
        if judges:
            _panel(made, board, asked, judges, people, options)
    _asked(made, board, [n for n in here if not raters[n].is_human], options)
    _of_people(made, board, people, options)


def _panel(
    made: JudgeStudy,
    board: Board,
    asked: str,
    judges: list[int],
    people: list[Humans],
    options: Options,
) -> None:
    """Judges that were asked in one way."""
    answers, scores, was_asked = board.matrix(judges)
    ends = measure.scale_ends(scores, board.found.top, options.scale)
    head = board.head | {"asked": asked}
    if ends is None:
        made.notes.append(
            f"no score at all by {', '.join(board.found.raters[n].judge for n in judges)}"
        )
        return
    panel = as_panel(board, answers, scores, judges)
    for place, use in enumerate(scale_use(panel, options.draws)):
        _use(made, head, panel, place, use, was_asked[:, place], ends, options)
    _choices(made, head, board, answers, panel, was_asked)
    _lengths(made, head, board, answers, panel)
    _humans(made, head, board, answers, panel, people, ends, options)
    if len(judges) < 2:
        return
    if len(judges) > _MOST:
        counts = (~np.isnan(panel.means)).sum(0)
        kept = np.sort(np.argsort(-counts, kind="stable")[:_MOST])
        made.notes.append(
            f"of {len(judges)} judges{f' asked {asked}' if asked else ''}, the {_MOST} with most "
            "verdicts are compared pair by pair"
        )
        panel = panel.of([panel.judges[n] for n in kept])
    _agreement(made, head, panel, options.draws)
    everywhere = [("all", np.ones(len(answers), dtype=bool))]
    subset = board.found.subset[answers]
    # Part by part, so that pairs share the draws of its clusters.
    for name, keep in everywhere + [
        (board.found.subsets[one], subset == one)
        for one in np.unique(subset)
        if 0 < (subset == one).sum() < len(subset)
    ]:
        for first, second in _ordered_pairs(panel.judges):
            _replaced(made, head | {"subset": name}, panel, first, second, keep, ends, options)


def _use(
    made: JudgeStudy, head: Row, panel: Panel, place: int, use: Any, was_asked: Mask,
    ends: measure.ScaleEnds, options: Options,
) -> None:  # fmt: skip
    scores = panel.scores[:, place]
    heap = measure.heap(scores, panel.cluster)
    again = measure.retest(scores, panel.cluster, options.draws)
    many = len(panel.judges) > 1
    nothing = measure.NOTHING
    made.add("judges", head | {
        "judge": use.judge, "scale": str(ends), "outside scale": int(_outside(scores, ends)),
        "verdicts": use.verdicts, "unscored": int(was_asked.sum()) - use.verdicts,
        "answers": int((~np.isnan(scores)).any(1).sum()), "mean": use.mean,
        "leniency": use.leniency if many else nothing, "sd": use.spread,
        "most given": heap.value if heap else None,
        "most given share": heap.share if heap else nothing,
        "at top": _share_at(scores, ends.top, panel.cluster), "distinct": use.distinct,
        "effective values": heap.effective if heap else None, "ties": heap.ties if heap else None,
        "on fives": use.heaping if ends.top == 100 and ends.low == 0 else nothing,
        "retest sd": again.sd if again else None,
        "retest icc": again.icc if again else nothing,
    })  # fmt: skip
    values, counts = np.unique(scores[~np.isnan(scores)], return_counts=True)
    made.histograms += [
        head
        | {"judge": use.judge, "score": float(v), "share": n / counts.sum(), "scale": str(ends)}
        for v, n in zip(values, counts, strict=True)
    ]
    if again is None or again.icc.mean is None:
        return
    icc_of_one = again.icc.mean
    made.add("repeats", head | {
        "judge": use.judge, "answers": again.answers, "repeats": int(panel.scores.shape[2]),
        "reliability of one": again.icc, "sd of repeats": again.sd, "sd of answers": again.between,
        "same again": again.same, "repeats for answers": again.for_answers,
        "repeats for means": again.for_means,
    } | {
        f"reliability of {m}": measure.reliability(icc_of_one, m) if icc_of_one > 0 else None
        for m in (2, 4, 8)
    })  # fmt: skip


def _outside(scores: Floats, ends: measure.ScaleEnds) -> int:
    with np.errstate(invalid="ignore"):
        return int(((scores < ends.low) | (scores > ends.top)).sum())


def _share_at(scores: Floats, value: float, cluster: Codes) -> Interval:
    from understudy.evaluation.statistics.intervals import cluster_rate

    known = ~np.isnan(scores)
    return cluster_rate(scores[known] == value, cluster[np.nonzero(known)[0]])


def _ladder(most: int) -> list[int]:
    return sorted({*(m for m in _LADDER if m < most), most})


def _choices(
    made: JudgeStudy, head: Row, board: Board, answers: Codes, panel: Panel, was_asked: Mask
) -> None:
    """How often the right answer is the best, by the number of repeats."""
    right = board.found.right[answers]
    if not right.any():
        return
    item = board.found.item[answers]
    for place, judge in enumerate(panel.judges):
        asked: Mask = np.asarray(was_asked[:, place].any(1))
        for repeats in _ladder(int(was_asked[:, place].any(0).sum()) or 1):
            means = measure.first_mean(panel.scores[:, place], repeats)
            one = measure.choice(means, asked, item, right, panel.cluster)
            if one is not None:
                made.add("choices", head | {"judge": judge, "repeats": repeats, **one._asdict()})


def _lengths(made: JudgeStudy, head: Row, board: Board, answers: Codes, panel: Panel) -> None:
    lengths = board.found.length[answers]
    if np.isnan(lengths).all():
        return
    for place, judge in enumerate(panel.judges):
        points = measure.length_slope(
            panel.means[:, place], lengths, panel.prompt, panel.system, panel.cluster
        )
        if points.mean is not None:
            made.add("length", head | {"judge": judge, "points for twice the length": points})


def _humans(
    made: JudgeStudy, head: Row, board: Board, answers: Codes, panel: Panel,
    people: list[Humans], ends: measure.ScaleEnds, options: Options,
) -> None:  # fmt: skip
    for humans in people:
        target = aligned(humans, answers)
        theirs = measure.scale_ends(humans.scores)
        is_same = theirs is not None and (theirs.top, theirs.low) == (ends.top, ends.low)
        for place, judge in enumerate(panel.judges):
            for repeats in (1, panel.scores.shape[2])[: panel.scores.shape[2]]:
                mean = measure.first_mean(panel.scores[:, place], repeats)
                one = measure.beside_humans(
                    mean, target, panel.system, panel.cluster, is_same, options.draws
                )
                if one is not None:
                    made.add("humans", head | {
                        "judge": judge, "humans": humans.kind, "people": len(humans.names),
                        "repeats": repeats, **one._asdict(),
                    })  # fmt: skip


def _of_people(made: JudgeStudy, board: Board, people: list[Humans], options: Options) -> None:
    """Each human beside the mean of the others of the kind: what a judge could reach."""
    for humans in people:
        if len(humans.names) < 2:
            continue
        cluster = np.unique(board.found.cluster[humans.answers], return_inverse=True)[1]
        system = board.found.system[humans.answers]
        for place, name in enumerate(humans.names):
            rest = nan_mean(np.delete(humans.scores, place, axis=1))
            one = measure.beside_humans(
                humans.scores[:, place], rest, system, cluster, True, options.draws
            )
            if one is not None:
                made.add("humans", board.head | {
                    "asked": "", "judge": name, "humans": f"other {humans.kind}s",
                    "people": len(humans.names) - 1, "repeats": 1, **one._asdict(),
                })  # fmt: skip


def _agreement(made: JudgeStudy, head: Row, panel: Panel, draws: int) -> None:
    scores, cluster = panel.means, panel.cluster
    whole = (~np.isnan(scores)).all(1)
    coefficients = icc(scores, cluster, draws) if whole.sum() > 1 else None
    made.add("agreement", head | {
        "judges": len(panel.judges), "answers": len(scores), "by all": int(whole.sum()),
        "alpha": krippendorff_alpha(scores, cluster, draws=draws),
        "alpha ordinal": krippendorff_alpha(scores, cluster, "ordinal", draws),
        "icc a1": coefficients.a1 if coefficients else measure.NOTHING,
        "icc ak": coefficients.ak if coefficients else measure.NOTHING,
        "icc c1": coefficients.c1 if coefficients else measure.NOTHING,
        "effective judges at least": effective_judges(panel, draws).value,
    })  # fmt: skip


def _ordered_pairs(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """All pairs, the lower version first: gpt-4.1 before gpt-5.1."""

    def key(place: int) -> list[tuple[int, Any]]:
        parts = re.findall(r"\d+|\D+", names[place])
        return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]

    yield from itertools.combinations(sorted(range(len(names)), key=key), 2)


def _replaced(
    made: JudgeStudy, head: Row, panel: Panel, first: int, second: int, keep: Mask,
    ends: measure.ScaleEnds, options: Options,
) -> None:  # fmt: skip
    means = panel.means[keep]
    one = measure.move(
        means[:, first], means[:, second], panel.system[keep], panel.cluster[keep],
        ends.span, options.draws,
    )  # fmt: skip
    if one is not None and one.answers >= _FEWEST:
        names = {"old": panel.judges[first], "new": panel.judges[second], "scale": str(ends)}
        made.add("replaced", head | names | one._asdict())


def _asked(made: JudgeStudy, board: Board, numbers: list[int], options: Options) -> None:
    """One judge asked in other ways on the same answers: each beside its most frequent one."""
    by_judge: dict[str, list[int]] = {}
    for number in numbers:
        by_judge.setdefault(board.found.raters[number].judge, []).append(number)
    counts = Counter(board.found.rater[board.rows].tolist())
    for judge, members in by_judge.items():
        answers, scores, _ = board.matrix(members)
        ends = [
            measure.scale_ends(scores[:, n], board.found.top, options.scale)
            for n in range(len(members))
        ]
        # What is called usual, else the most frequent, else the first.
        most = max(
            range(len(members)),
            key=lambda n: (bool(_USUAL.match(board.found.raters[members[n]].asked)),
                           counts[members[n]], -n),
        )  # fmt: skip
        names = [board.found.raters[n].asked or "as usual" for n in members]
        panel = as_panel(board, answers, scores, members)
        others: list[str] = []
        for place in range(len(members)):
            base, mine = ends[most], ends[place]
            if place == most or base is None or mine is None:
                continue
            if (base.low, base.top) != (mine.low, mine.top):
                others.append(f"{names[place]} ({mine})")
                continue
            one = measure.move(
                panel.means[:, most], panel.means[:, place], panel.system, panel.cluster,
                base.span, options.draws,
            )  # fmt: skip
            if one is not None and one.answers >= _FEWEST:
                made.add("wording", board.head | {
                    "judge": judge, "usual": names[most], "other": names[place],
                    "scale": str(base),
                } | one._asdict())  # fmt: skip
        if others:
            made.notes.append(
                f"{judge}: {', '.join(others)} are on another scale than {names[most]} "
                f"({ends[most]}), so their scores are not compared; --scale says that it is one"
            )


def _contests(made: JudgeStudy, name: str, found: Contests, draws: int) -> None:
    head: Mapping[str, Any] = {"table": name} if name else {}
    label = f"{name}: " if name else ""
    made.notes += [label + note for note in found.notes]
    made.verdicts += len(found.wins)
    made.unscored += int(np.isnan(found.wins).sum())
    _missing(made, dict(head), found)
    for rater, one in zip(found.raters, pairs.judges(found), strict=True):
        made.add("pairs", {**head, **_names(rater), **one._asdict()})
    for asked in dict.fromkeys(rater.asked for rater in found.raters):
        value, count = pairs.alpha(found, asked, draws)
        if count > 1:
            made.add("pair agreement", {**head, "asked": asked, "judges": count, "alpha": value})
    for standing in pairs.standings(found):
        rater = found.raters[standing.rater]
        made.add("wins", {**head, **_names(rater), "system": standing.system,
                          "verdicts": standing.verdicts, "wins": standing.wins})  # fmt: skip
