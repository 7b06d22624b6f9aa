"""On which scale a judge scores: what single replies leave open is settled over its stage, or told.

"0.9" may be a share, or next to nothing of 100, and "8" nothing at all, or 8 of 10. A reply that
says which is read as it says (prompts/judge.py). Of the others, shares are believed where a stage's
first replies hold nothing but numbers up to 1, most of them with fractions: nobody grades in
hundredths of a point. A score of 1 beside shares is never 1 of 100. That a judge scores from 0 to
10 is never believed, since an answer may be worth 8 of 100: it is told, and blocks a migration.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from understudy.prompts import judge as prompt
from understudy.records import Verdict
from understudy.services.base import Reply, Request

SHARE = "share"  # the status, in a stage that is not finished, of a verdict read as shares of 1
MENDED = "mended"  # and of one whose first reply was in shares, asked again
OTHER = "wrong_scale"
_SHARES = "0-1"
_FEWEST = 5  # verdicts with shares that show a judge's habit
_FEWEST_LOW = 10  # verdicts without a score above these that are worth a word
_LOW = {"0-100": 10.0, "0-5": 20.0}  # of 100, by the scale that was asked for


class FirstReplies:
    """The calls whose first reply was in shares of 1, and which are asked again for that."""

    def __init__(self) -> None:
        self._calls: set[tuple[int, str]] = set()

    def note(self, request: Request, reply: Reply, variant: str) -> None:
        """Keep a call in mind whose reply is in shares."""
        if _shares(reply, variant) is not None:
            self._calls.add((request.index, request.messages[-1]["content"]))

    def hold(self, request: Request) -> bool:
        """Return whether a call is one of them."""
        return (request.index, request.messages[-1]["content"]) in self._calls

    def __bool__(self) -> bool:
        return bool(self._calls)


def unsettled(row: Verdict, reply: Reply, is_mended: bool) -> Verdict:
    """Return a verdict as the stage keeps it until all are there.

    One in shares of 1 as SHARE; as MENDED a scored one if its first reply was (`is_mended`).
    """
    if row.status == OTHER and (shares := _shares(reply, row.prompt_variant)) is not None:
        return replace(row, **shares._asdict(), status=SHARE)
    return replace(row, status=MENDED) if is_mended and row.status == "scored" else row


def _shares(reply: Reply, variant: str) -> prompt.Scores | None:
    """The scores of a reply that is on the wrong scale unless they are shares of 1."""
    is_other = prompt.parse(reply.text, variant) == prompt.Unscored(OTHER, reply.text)
    shares = prompt.parse(reply.text, variant, 1)
    return shares if is_other and isinstance(shares, prompt.Scores) else None


def settle(rows: Collection[Verdict]) -> list[Verdict]:
    """Return the verdicts of a stage, none a SHARE or MENDED any more."""
    shares = [row for row in rows if row.status in (SHARE, MENDED)]
    if not shares:
        return list(rows)
    scored = [row for row in rows if row.status == "scored"]
    ones = [row for row in scored if _highest(row) == 1]
    above = [row for row in scored if _highest(row) > 1]
    is_habit = not above and len(shares) >= max(_FEWEST, len(ones))
    return [_settled(row, is_habit) for row in rows]


def _settled(row: Verdict, is_habit: bool) -> Verdict:
    if row.status == MENDED:
        return replace(row, status="scored")
    is_one = row.status == "scored" and _highest(row) == 1
    if row.status != SHARE and not is_one:
        return row
    if not is_habit:
        return replace(row, similarity=None, precision=None, reason_similarity=None,
                       reason_precision=None, status=OTHER)  # fmt: skip
    if is_one:
        assert row.similarity is not None
        assert row.precision is not None
        row = replace(row, similarity=100 * row.similarity, precision=100 * row.precision)
    return replace(row, scale=_SHARES, status="scored")


def warnings(rows: Sequence[Verdict], is_given: bool = False) -> list[str]:
    """Return what is to be said of the scale in a stage's settled verdicts.

    `is_given`: the judge's scale is in the config, so low scores are what they are.
    """
    if not rows:
        return []
    judge, asked = rows[0].judge, f"0 to {prompt.most(rows[0].prompt_variant)}"
    where = f"evaluation: judge {judge} on {rows[0].generator}"
    shares = sum(row.scale == _SHARES and row.status == "scored" for row in rows)
    others = sum(row.status == OTHER for row in rows)
    said = []
    if shares and not is_given:
        said.append(
            f"{where}: {shares} of {len(rows)} verdicts give shares of 1 where {asked} was asked "
            "for, and none gives more than 1; they are read as shares"
        )
    if others:
        said.append(
            f"{where}: {others} of {len(rows)} verdicts are, or may be, on another scale than "
            f"{asked} and count as unscored; judges.{judge}.scale=10 (or 1, …) says which it is"
        )
    if not is_given and _is_low(rows):
        said.append(
            f"{where}: no score is above {max(map(_highest, rows)):g} of 100; if the answers are "
            f"better than that, say the judge's own scale: judges.{judge}.scale=10 (or 1, …)"
        )
    return said


def doubts(
    judge: str, local: Sequence[Verdict], service: Sequence[Verdict], is_given: bool = False
) -> list[str]:
    """Return why the scores of two sides cannot be compared; of most judges nothing.

    `is_given`: the judge's scale is in the config.
    """
    ours, theirs = _used(local), _used(service)
    if ours and theirs and ours != theirs:
        return [
            f"judge {judge} scored the local answers on a scale of {ours} and the service's on one "
            f"of {theirs}: judges.{judge}.scale=1 (or 10, …) says which it is"
        ]
    if not is_given and _is_low([*local, *service]):
        return [
            f"judge {judge} gave neither side more than a tenth of its scale: "
            f"judges.{judge}.scale=10 (or 1, …) says which it is, or 100 that both are as bad"
        ]
    return []


def _is_low(rows: Iterable[Verdict]) -> bool:
    """Whether some scores are above 0 and none is above 10 of 100, or 1 of 5."""
    scored = [row for row in rows if row.status == "scored"]
    highest = max(map(_highest, scored), default=0.0)
    is_low = all(_highest(row) <= _LOW.get(row.scale, 0.0) for row in scored)
    return len(scored) >= _FEWEST_LOW and highest > 0 and is_low


def _used(rows: Sequence[Verdict]) -> str | None:
    """The scale of the scores above 0."""
    used = {row.scale for row in rows if row.status == "scored" and _highest(row)}
    return _SHARES if _SHARES in used else min(used, default=None)


def _highest(row: Verdict) -> float:
    return max(row.similarity or 0.0, row.precision or 0.0)
