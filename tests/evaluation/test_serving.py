"""Beside quality: refusals, latency and from how many requests a day the local model pays."""

import pytest

from understudy.evaluation.serving import PaysFrom, Serving, Side, pays_from, refuses, side_of
from understudy.evaluation.statistics.intervals import cluster_rate
from understudy.records import Answer


def answer(number: int, text: str, finish: str = "stop") -> Answer:
    return Answer(f"p{number}", f"p{number}", 0, text, 5, finish, "tiny", "f")


@pytest.mark.parametrize(
    ("text", "finish", "is_refusal"),
    [
        ("I'm sorry, but I can't help with that.", "stop", True),
        ("I\u2019m sorry, but I cannot do that.", "stop", True),
        ("Sorry, I can't share this.", "stop", True),
        ("I am unable to answer.", "stop", True),
        ("As an AI, I have no opinion.", "stop", True),
        ("", "refusal", True),
        ("I'm sorry for your loss; the parcel comes on Monday.", "stop", False),
        ("They cannot open the door.", "stop", False),
        ("I can help with that.", "stop", False),
        ("", "error", False),
    ],
)
def test_a_refusal_is_marked_by_the_maker_or_begins_as_one(
    text: str, finish: str, is_refusal: bool
) -> None:
    assert refuses(answer(0, text, finish)) is is_refusal


def side(p95_s: float | None = 2.0, refused: int = 0, answers: int = 100) -> Side:
    share = cluster_rate([n < refused for n in range(answers)], range(answers))
    return Side("tiny", answers, share, 1.0, p95_s, "100 calls")


def test_a_side_is_made_of_its_rows_and_of_times_per_call_or_those_noted() -> None:
    rows = [answer(n, "I cannot say." if n < 5 else "yes") for n in range(50)]
    rows.append(answer(50, "", "error"))  # was never given
    found = side_of(rows, [1.0] * 90 + [3.0] * 10, {})
    assert (found.p50_s, found.p95_s, found.timed) == (1.0, 3.0, "100 calls")
    assert found.refusals.mean == pytest.approx(0.1)
    noted = side_of(rows, [], {"latency_s": {"p50": 0.5, "p95": 0.9, "of": "50 answers"}})
    assert (noted.p50_s, noted.p95_s, noted.timed) == (0.5, 0.9, "50 answers")
    assert side_of(rows, [], {}).p95_s is None


def test_a_second_criterion_that_is_not_met_or_not_measured_is_an_objection() -> None:
    assert Serving(side(), None, None).objections(None, None) == []
    assert Serving(side(p95_s=None, refused=99), None, None).objections(None, None) == []
    assert Serving(side(), None, None).objections(2.0, 0.05) == []
    slow, dumb = Serving(side(), None, None).objections(1.5, 0.01)
    assert slow == "The 95 % quantile of local latency is 2 s: gate.p95_s=1.5."
    assert dumb == "The share of local refusals may be 3.6%: gate.refusals=0.01."
    unknown = Serving(side(p95_s=None), None, None).objections(9.0, None)
    assert "was not measured" in unknown[0]
    assert len(Serving(None, None, None).objections(9.0, 1.0)) == 2


def test_the_local_model_pays_from_where_its_rent_is_the_services_price() -> None:
    found = pays_from(2.0, usd_per_request=0.001, tokens_per_second=500, tokens_per_answer=100)
    assert found == PaysFrom(48_000, 432_000)
    assert "from 48,000 requests a day" in Serving(None, None, found).lines[-1]
    never = pays_from(2.0, 0.00001, 500, 100)
    assert "at no number of requests" in Serving(None, None, never).lines[-1]
