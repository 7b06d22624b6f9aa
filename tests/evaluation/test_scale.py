"""On which scale a judge scored: settled over its stage where that is certain, else told."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.evaluations import answers_to, config, coverage, job, service, verdict
from support.gateways import stage
from understudy.evaluation import judge, scale
from understudy.records import Verdict, read_rows
from understudy.services.base import Reply
from understudy.store.artifacts import Job


def said(similarity: float, precision: float) -> str:
    return json.dumps(
        {
            "similarity_assessment": {"reason": "near", "score": similarity},
            "precision_assessment": {"reason": "good", "score": precision},
        }
    )


def kept(*scores: tuple[float, float], mended: Sequence[int] = ()) -> list[Verdict]:
    """What a stage keeps of replies with these scores; those in `mended` were asked for again."""
    rows = []
    for number, pair in enumerate(scores):
        reply = Reply(said(*pair))
        row = judge.judged(verdict(f"p{number}", 0, 0, None), reply)
        rows.append(scale.unsettled(row, reply, number in mended))
    return rows


def scores(rows: Sequence[Verdict]) -> list[tuple[float | None, float | None]]:
    return [(row.similarity, row.precision) for row in rows]


def test_shares_of_a_whole_stage_are_read_as_shares_and_a_one_among_them_as_all() -> None:
    rows = scale.settle(
        kept((0.9, 0.95), (1, 0.5), (0.25, 0), (1, 1), (0, 0), (0.8, 0.8), (1, 0.9))
    )
    assert scores(rows) == [(90, 95), (100, 50), (25, 0), (100, 100), (0, 0), (80, 80), (100, 90)]
    assert {row.status for row in rows} == {"scored"}
    (warning,) = scale.warnings(rows)
    assert "6 of 7 verdicts give shares of 1 where 0 to 100 was asked for" in warning


def test_a_mix_of_scales_is_told_and_never_rescaled() -> None:
    rows = scale.settle(kept((0.9, 0.95), (90, 80), (1, 1), (0, 0), *[(0.5, 0.5)] * 9))
    assert scores(rows)[:4] == [(None, None), (90, 80), (None, None), (0, 0)]
    assert [row.status for row in rows[:4]] == ["wrong_scale", "scored", "wrong_scale", "scored"]
    assert rows[0].reason_precision is None
    (warning,) = scale.warnings(rows)
    assert "11 of 13 verdicts are, or may be, on another scale" in warning
    assert "judges.j.scale=10" in warning


def test_a_few_shares_are_no_habit() -> None:
    rows = scale.settle(kept((0.9, 0.95), (1, 1)))
    assert scores(rows) == [(None, None)] * 2


def test_more_ones_than_shares_are_no_habit() -> None:
    rows = scale.settle(kept(*[(0.5, 1)] * 6, *[(1, 1)] * 7, (0, 0)))
    assert {row.status for row in rows[:-1]} == {"wrong_scale"}
    assert rows[-1].status == "scored"


def test_a_one_is_no_hundredth_where_other_first_replies_were_shares() -> None:
    rows = scale.settle(kept((90, 95), (1, 1), *[(80, 70)] * 5, mended=[0, 2, 3, 4, 5, 6]))
    assert scores(rows)[:3] == [(90, 95), (100, 100), (80, 70)]
    rows = scale.settle(kept((90, 95), (1, 1), (80, 70), mended=[0]))
    assert scores(rows) == [(90, 95), (None, None), (80, 70)]


def test_low_scores_of_one_side_are_left_and_told() -> None:
    rows = scale.settle(kept(*[(8, 9)] * 10))
    assert scores(rows) == [(8, 9)] * 10
    (warning,) = scale.warnings(rows)
    assert "no score is above 9 of 100" in warning
    assert scale.warnings(rows, is_given=True) == []
    assert scale.warnings(scale.settle(kept(*[(8, 9)] * 10, (8, 11)))) == []
    assert scale.warnings(scale.settle(kept(*[(0, 0)] * 10))) == []


def test_a_weak_model_beside_a_good_service_is_no_doubt_but_two_low_sides_are() -> None:
    weak, good = (scale.settle(kept(*[pair] * 10)) for pair in ((8, 9), (90, 95)))
    assert scale.doubts("j", weak, good) == []
    (doubt,) = scale.doubts("j", weak, weak)
    assert "gave neither side more than a tenth" in doubt
    assert scale.doubts("j", weak, weak, is_given=True) == []


def test_sides_on_two_scales_are_a_doubt() -> None:
    shares, ones = (scale.settle(kept(*[pair] * 10)) for pair in ((0.9, 0.95), (1, 1)))
    (doubt,) = scale.doubts("j", shares, ones)
    assert "on a scale of 0-1 and the service's on one of 0-100" in doubt
    assert scale.doubts("j", shares, shares) == []


def rows_of(of: Job) -> list[Verdict]:
    return list(read_rows(of.out / "rows.jsonl", Verdict))


@pytest.mark.slow
def test_a_stage_of_shares_is_settled_however_it_was_interrupted(tmp_path: Path) -> None:
    rows = coverage(4)
    answers = answers_to(rows)
    with stage(text=said(0.9, 1)) as server:
        own = {"provider": "openai_compatible", "base_url": server.url}
        of = config(m=1, judges=[service("shy", **own)])
        whole = job(tmp_path / "one", of, rows, answers)
        whole = replace(whole, root=tmp_path / "runs")
        judge.run(whole)
        assert len(server.bodies) == 2 * 8  # each was asked once more
        assert set(scores(rows_of(whole))) == {(90, 100)}
        (warning,) = whole.notes["warnings"]
        assert "judge shy on tiny: 8 of 8 verdicts give shares of 1" in warning
        resumed = replace(job(tmp_path / "two", of, rows, answers), root=tmp_path / "runs")
        half = [
            scale.unsettled(replace(row, similarity=None, precision=None, scale="0-100",
                                    reason_similarity=None, reason_precision=None,
                                    status="wrong_scale"), Reply(said(0.9, 1)), False)
            for row in rows_of(whole)[:3]
        ]  # fmt: skip
        text = "".join(json.dumps(row.to_dict()) + "\n" for row in half)
        (resumed.out / "rows.jsonl").write_text(text)
        judge.run(resumed)
        assert len(server.bodies) == 2 * 8
    for name in ("rows.jsonl", "summary.json"):
        assert (resumed.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert resumed.notes["warnings"] == whole.notes["warnings"]


@pytest.mark.parametrize(("own", "expected"), [(10.0, (80, 90)), (100.0, (8, 9))])
def test_a_judge_s_own_scale_is_a_setting(
    tmp_path: Path, own: float, expected: tuple[float, float]
) -> None:
    rows = coverage(5)
    with stage(text=said(8, 9)) as server:
        facts = {"provider": "openai_compatible", "base_url": server.url, "scale": own}
        of = config(m=1, judges=[service("shy", **facts)])
        work = replace(job(tmp_path, of, rows, answers_to(rows)), root=tmp_path / "runs")
        judge.run(work)
        assert len(server.bodies) == 10
    assert set(scores(rows_of(work))) == {expected}
    assert "warnings" not in work.notes
