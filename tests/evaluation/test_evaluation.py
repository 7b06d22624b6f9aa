"""The evaluation stage on answers of the playground, and the arithmetic of its summary."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from support.evaluations import answers_to, config, coverage, job, service, verdict, write
from understudy.config import changed
from understudy.errors import Internal
from understudy.evaluation import judge, scores
from understudy.records import Verdict, read_rows
from understudy.services.base import Reply
from understudy.store.artifacts import Job


def outcome(of: Job) -> tuple[list[Verdict], dict[str, Any]]:
    rows = list(read_rows(of.out / "rows.jsonl", Verdict))
    return rows, json.loads((of.out / "summary.json").read_text())


@pytest.mark.slow
def test_every_answer_of_the_split_is_judged_m_times_and_summed_up(tmp_path: Path) -> None:
    rows = coverage(8) + coverage(2, "train")
    answers = answers_to(rows)
    work = job(tmp_path, config(), rows, answers)
    judge.run(work)
    verdicts, summary = outcome(work)
    assert len(verdicts) == 8 * 2 * 3
    assert {v.prompt_id for v in verdicts} == {row.id for row in rows if row.split == "test"}
    assert all(v.status == "scored" and v.reason_precision for v in verdicts)
    assert list(summary) == [
        *("judge", "judge_family", "generator", "family", "prompt_variant", "order", "m", "k"),
        *("n_prompts", "n_groups", "n_answers", "n_verdicts", "n_unscored", "unscored"),
        *("n_missing_answers", "similarity", "precision", "interval", "rule", "executes"),
    ]
    counts = {key: summary[key] for key in summary if key.startswith("n_")} | {"k": summary["k"]}
    assert counts == {
        **{"n_prompts": 8, "n_groups": 4, "n_answers": 16, "n_verdicts": 48},
        **{"n_unscored": 0, "n_missing_answers": 0, "k": 2},
    }
    assert summary["unscored"] == {}
    # Balanced, so the mean over prompts is the mean over all verdicts.
    for metric in scores.METRICS:
        part = summary[metric]
        assert part["mean"] == pytest.approx(fmean(getattr(v, metric) for v in verdicts))
        assert part["low"] < part["mean"] < part["high"]
        assert 0 <= part["coverage@70"] <= part["coverage@50"] <= 1
    judged = [a for a in answers if a.prompt_id.startswith("test")]
    right = sum(a.text == r.response for a in judged for r in rows if r.id == a.prompt_id)
    assert (summary["rule"]["n"], summary["rule"]["passed"]) == (16, right)
    assert summary["rule"]["rate"] == right / 16


@pytest.mark.slow
def test_an_interrupted_evaluation_ends_in_the_same_bytes(tmp_path: Path) -> None:
    rows = coverage(4)
    answers = answers_to(rows)
    answers[0] = replace(answers[0], text="", finish="error")
    whole, resumed = (job(tmp_path / name, config(), rows, answers) for name in ("one", "two"))
    judge.run(whole)
    lines = (whole.out / "rows.jsonl").read_text().splitlines(keepends=True)
    (resumed.out / "rows.jsonl").write_text("".join(lines[1:9:2]) + lines[0][:40])
    judge.run(resumed)
    for name in ("rows.jsonl", "summary.json"):
        assert (resumed.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_verdicts_on_disk_are_kept_and_not_asked_for_again(tmp_path: Path) -> None:
    rows = coverage(2)
    work = job(tmp_path, config(m=1), rows, answers_to(rows, k=1))
    judge.run(work)
    verdicts, _ = outcome(work)
    write(work.out, [replace(v, reason_precision="from before") for v in verdicts])
    judge.run(work)
    assert {v.reason_precision for v in outcome(work)[0]} == {"from before"}


def test_cut_off_replies_are_unscored_and_the_summary_stays_empty_of_numbers(
    tmp_path: Path,
) -> None:
    rows = coverage(2)
    of = config(m=2, judges=[service("short", max_output_tokens=10)])
    work = job(tmp_path, of, rows, answers_to(rows, k=1))
    judge.run(work)
    verdicts, summary = outcome(work)
    assert {(v.status, v.similarity, v.precision) for v in verdicts} == {("cut_off", None, None)}
    assert summary["unscored"] == {"cut_off": 4}
    assert (summary["n_unscored"], summary["n_missing_answers"]) == (4, 2)
    nothing = dict.fromkeys(["mean", "low", "high", "coverage@50", "coverage@70"])
    nothing |= {f"coverage@{cut}.{end}": None for cut in (50, 70) for end in ("low", "high")}
    assert summary["precision"] == summary["similarity"] == nothing


def test_an_answer_that_was_never_given_is_missing_and_neither_judged_nor_failed(
    tmp_path: Path,
) -> None:
    rows = coverage(3)
    answers = answers_to(rows, k=1, skill=1.0)
    answers[0] = replace(answers[0], text="", finish="error")
    work = job(tmp_path, config(m=2, judges=[service("offline")]), rows, answers)
    judge.run(work)
    _, summary = outcome(work)
    assert summary["unscored"] == {"no_answer": 2}
    assert summary["n_missing_answers"] == 1
    assert summary["precision"]["mean"] == 100
    assert (summary["rule"]["n"], summary["rule"]["rate"]) == (2, 1.0)


@pytest.mark.slow
def test_prompts_from_elsewhere_have_no_rule(tmp_path: Path) -> None:
    rows = [
        replace(row, messages=[{"role": "user", "content": f"Sing {i}"}, row.messages[1]])
        for i, row in enumerate(coverage(2))
    ]
    answers = [replace(a, text=rows[0].response) for a in answers_to(coverage(2))]
    work = job(tmp_path, config(m=1), rows, answers)
    judge.run(work)
    assert outcome(work)[1]["rule"] is None


def test_a_stage_without_answers_to_its_split_is_an_error_of_ours(tmp_path: Path) -> None:
    rows = coverage(2, "train")
    with pytest.raises(Internal, match="one generator's answers to the test split"):
        judge.run(job(tmp_path, config(), rows, answers_to(rows)))


def test_the_judge_reads_earlier_turns_before_the_instruction() -> None:
    assert judge.conversation([{"role": "user", "content": "Hi"}]) == "Hi"
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Sum up.")]
    assert judge.conversation([{"role": r, "content": c} for r, c in turns]) == (
        "System:\nBe brief.\n\nUser:\nHi\n\nAssistant:\nHello.\n\nUser:\nSum up."
    )


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply("{}", "length"), "cut_off"),
        (Reply("I would rather not.", "refusal"), "refused"),
        (Reply("", "blocked"), "blocked"),
        (Reply("", "error"), "error"),
        (Reply("90 of 100"), "not_json"),
    ],
)
def test_a_reply_without_scores_leaves_null_and_its_status(reply: Reply, status: str) -> None:
    blank = verdict("p", 0, 0, None)
    assert judge.judged(blank, reply) == replace(blank, status=status)


def test_repeats_then_samples_then_prompts_are_averaged_and_missing_ones_left_out() -> None:
    verdicts = [
        *(verdict("a", 0, m, score) for m, score in enumerate([40, 60, None])),
        verdict("a", 1, 0, 90),
        *(verdict("b", 0, m, None) for m in range(3)),
        verdict("b", 1, 0, 70),
    ]
    pooled = scores.pool(verdicts, "precision")
    assert pooled.answers == {("a", 0): 50, ("a", 1): 90, ("b", 1): 70}
    assert pooled.prompts == {"a": 70, "b": 70}
    found = scores.describe(pooled, {"a": "g", "b": "g"})
    expected = {"mean": 70, "low": None, "high": None, "coverage@50": 1.0, "coverage@70": 2 / 3}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_limits_end_where_the_scale_does() -> None:
    prompts = {"a": 100.0, "b": 100.0, "c": 60.0}
    described = scores.describe(scores.Pooled({}, prompts), {name: name for name in prompts})
    assert described["high"] == 100.0
    assert described["low"] is not None
    assert described["low"] > 0


def test_code_is_run_only_when_the_task_allows_it(tmp_path: Path) -> None:
    rows = coverage(4)
    texts = ["Sure:\n```python\nx = 1\n```\nDone.", "def f(:", "1 / 0", "def f(a):\n    return a"]
    answers = [
        replace(answer, text=text)
        for answer, text in zip(answers_to(rows, k=1), texts, strict=True)
    ]
    for allowed in (False, True):
        settings = changed(config(), {"task.execute_code": allowed})
        work = job(tmp_path / str(allowed), settings, rows, answers)
        judge.run(work)
        executes = outcome(work)[1]["executes"]
        assert executes is None if not allowed else (executes["n"], executes["passed"]) == (4, 2)
