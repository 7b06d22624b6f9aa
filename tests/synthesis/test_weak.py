"""Aiming at what is weak: clusters, needs, folds, and the stages that a probe consists of."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support import files, tiny_model
from understudy import playground
from understudy.config import Config
from understudy.data.split import run_fold
from understudy.errors import BadInput
from understudy.pipeline.flow import Flow
from understudy.records import Coverage, Verdict, read_rows
from understudy.synthesis import weak


def verdict(prompt: str, score: float | None, judge: str = "a") -> Verdict:
    status = "unparsable" if score is None else "scored"
    return Verdict(
        *(prompt, "tiny", 0, judge, "f", "default", "reference_first", 0, "0-100"),
        *(score, score, None, None, status),
    )


def planted(seed: int = 0) -> list[Coverage]:
    """60 rows of one kind, 20 of another."""
    pairs = playground.generate("classification", seed, 0, 60)
    pairs += playground.generate("coding", seed, 0, 20)
    return [tiny_model.row(f"{n}", *pair) for n, pair in enumerate(pairs)]


def test_need_is_the_shortfall_plus_the_spread_between_judges() -> None:
    verdicts = [verdict("p", 80), verdict("p", 60, "b"), verdict("q", 70), verdict("r", None)]
    assert weak.needs_of(verdicts) == {"p": 40.0, "q": 30.0}


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_weak_cluster_is_where_seeds_are_drawn(seed: int) -> None:
    rows = planted(seed)
    verdicts = [verdict(row.id, 20 if int(row.id) >= 60 else 90) for row in rows]
    found = weak.find(rows, verdicts, seed)
    assert {row.id for row in found.rows} == {str(n) for n in range(60, 80)}
    assert found.note["need_of_weak"] == 80


def test_judges_that_disagree_make_a_cluster_weak() -> None:
    rows = planted()
    verdicts = [
        verdict(row.id, score, judge)
        for row in rows
        for judge, score in zip("ab", (40, 100) if int(row.id) >= 60 else (70, 70), strict=True)
    ]
    assert {int(row.id) >= 60 for row in weak.find(rows, verdicts, 0).rows} == {True}


def test_where_nothing_stands_out_all_rows_seed() -> None:
    rows = planted()
    assert weak.find(rows, [verdict(row.id, 50) for row in rows], 0).rows == rows
    assert weak.find(rows, [], 0).rows == rows


def test_every_train_row_is_in_one_fold_and_no_held_out_row_in_any(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    rows = [r for s in ("train", "validation", "test") for r in tiny_model.rows(9, s)]
    upstream = tiny_model.upstream(tmp_path / "split", rows)
    tested: list[str] = []
    for fold in range(3):
        params = {"fold": fold, "folds": 3}
        job = files.job(composed(), tmp_path / str(fold), params, split=upstream)
        run_fold(job)
        made = list(read_rows(job.out / "rows.jsonl", Coverage))
        ids = {s: {r.id for r in made if r.split == s} for s in ("train", "validation", "test")}
        assert len(ids["train"] & ids["test"]) == 0
        assert ids["train"] | ids["test"] == {f"train{n}" for n in range(9)}
        assert ids["validation"] == {f"validation{n}" for n in range(9)}
        tested += ids["test"]
    assert sorted(tested) == [f"train{n}" for n in range(9)]


def test_too_few_groups_for_the_folds_are_one_sentence(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    upstream = tiny_model.upstream(tmp_path / "split", tiny_model.rows(2))
    job = files.job(composed(), tmp_path / "a", {"fold": 0, "folds": 3}, split=upstream)
    with pytest.raises(BadInput, match=r"only 2 groups.*synthesis\.seeds=uniform"):
        run_fold(job)


def test_a_probe_answers_train_rows_only_and_comes_before_the_first_block(
    composed: Callable[..., Config],
) -> None:
    flow = Flow(composed("synthesis.seeds=weak", "judge=offline_panel", "data_size=250"))
    roles = list(flow.round(0))
    kinds = ("fold", "subset", "finetune", "inference")
    judged = tuple(f"evaluation.{judge}" for judge in flow.config.judges)
    expected = [f"probe.{fold}.{kind}" for fold in range(3) for kind in (*kinds, *judged)]
    assert roles[: len(expected)] == expected
    assert roles[len(expected)] == "synthesis.0"
    for role, stage in flow.round(0)["synthesis.0"].inputs.items():
        if role != "split":
            assert stage.inputs["split"].name == "fold"


@pytest.mark.slow
def test_uniform_seeds_need_no_probe_and_keep_the_other_stages(
    composed: Callable[..., Config],
) -> None:
    uniform = Flow(composed("data_size=250")).round(0)
    aimed = Flow(composed("data_size=250", "synthesis.seeds=weak")).round(0)
    assert not any(role.startswith("probe.") for role in uniform)
    assert uniform["synthesis.0"].fingerprint != aimed["synthesis.0"].fingerprint
    zero = Flow(composed("data_size=0", "synthesis.seeds=weak")).round(0)
    assert not any(role.startswith("probe.") for role in zero)
