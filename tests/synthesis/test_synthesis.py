"""Blocks of the synthetic pool: clean, in call order, the same after a crash."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import files
from support.synthetic import split_rows
from understudy import playground
from understudy.config import Config
from understudy.data import subset
from understudy.data.duplicates import same
from understudy.errors import BadInput
from understudy.records import Coverage, Synthetic, read_rows
from understudy.store.artifacts import Job, RowLog
from understudy.synthesis.stage import run


@pytest.fixture
def config(composed: Callable[..., Config]) -> Config:
    return composed("coverage.split.test=10", "coverage.split.validation=8")


def stage(config: Config, tmp_path: Path, rows: int = 40, block: int = 0, **inputs: Path) -> Job:
    name = f"b{block}-{len(list(tmp_path.iterdir()))}"
    for part in ("out", "scratch"):
        (tmp_path / name / part).mkdir(parents=True)
    params = {"block": block, "rows": rows}
    return Job(config, params, inputs, tmp_path / name / "out", tmp_path / name / "scratch")


def rows_of(job: Job) -> list[Synthetic]:
    return list(read_rows(job.out / "rows.jsonl", Synthetic))


@pytest.mark.slow
@pytest.mark.parametrize("task", playground.TASKS)
def test_a_block_holds_the_wanted_rows_of_the_task_each_from_a_train_seed(
    task: str, composed: Callable[..., Config], tmp_path: Path
) -> None:
    config = composed(f"task={task}", "coverage.split.test=10", "coverage.split.validation=8")
    human = split_rows(config, tmp_path / "split")
    job = stage(config, tmp_path, split=human)
    run(job)
    rows = rows_of(job)
    train = {r.id for r in read_rows(human / "rows.jsonl", Coverage) if r.split == "train"}
    assert len(rows) == len({same(r.instruction) for r in rows}) == 40
    assert {r.seed_id for r in rows} <= train
    assert all(playground.grade(r.instruction, r.response).passed for r in rows)  # type: ignore[union-attr]
    assert {(r.split, r.depth, r.licence, r.task) for r in rows} == {("train", 1, "CC0", task)}


def test_seeds_are_used_up_before_one_is_used_again(config: Config, tmp_path: Path) -> None:
    job = stage(config, tmp_path, rows=60, split=split_rows(config, tmp_path / "split"))
    run(job)
    by_call = {r.call_id: r.seed_id for r in rows_of(job)}
    assert len(by_call) == 12  # 5 pairs a call, and 12 train seeds
    assert len(set(by_call.values())) == 12


def test_the_next_block_runs_on_and_repeats_nothing(config: Config, tmp_path: Path) -> None:
    human = split_rows(config, tmp_path / "split")
    first = stage(config, tmp_path, split=human)
    run(first)
    second = stage(config, tmp_path, block=1, split=human, **{"block.0": first.out})
    run(second)
    a, b = rows_of(first), rows_of(second)
    assert min(r.call_id for r in b) > max(r.call_id for r in a)
    assert not {same(r.instruction) for r in a} & {same(r.instruction) for r in b}


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "deepest"), [(1, [1, 1, 1]), (2, [1, 2, 2]), (3, [1, 2, 3])])
def test_depth_limits_how_far_rows_are_from_a_human_one(
    depth: int, deepest: list[int], composed: Callable[..., Config], tmp_path: Path
) -> None:
    sizes = ("coverage.split.test=10", "coverage.split.validation=8", "synthesis.pairs_per_call=1")
    config = composed(f"synthesis.depth={depth}", *sizes)
    inputs = {"split": split_rows(config, tmp_path / "split")}
    depths = dict.fromkeys((r.id for r in read_rows(inputs["split"] / "rows.jsonl", Coverage)), 0)
    for number, rows in enumerate((20, 30, 60)):
        job = stage(config, tmp_path, rows=rows, block=number, **inputs)
        run(job)
        made = rows_of(job)
        assert all(row.depth == depths[row.seed_id] + 1 for row in made)
        assert max(row.depth for row in made) == deepest[number]
        depths |= {row.id: row.depth for row in made}
        inputs[f"block.{number}"] = job.out


def test_held_out_and_known_instructions_are_dropped_and_counted(
    config: Config, tmp_path: Path
) -> None:
    human = split_rows(config, tmp_path / "split")
    clean = stage(config, tmp_path, split=human)
    run(clean)
    made = rows_of(clean)
    # The same teacher will write these again; now one is a test prompt and one a train prompt.
    planted = [
        Coverage(f"p{i}", f"p{i}", row.messages, row.task, None, "test", name)
        for i, (row, name) in enumerate(((made[0], "test"), (made[1], "holdout")))
    ]
    rows = [*read_rows(human / "rows.jsonl", Coverage), *planted]
    (tmp_path / "planted").mkdir()
    log = RowLog(tmp_path / "planted", Coverage)
    log.append(rows)
    log.finish()
    job = stage(config, tmp_path, split=tmp_path / "planted")
    run(job)
    summary = json.loads((job.out / "summary.json").read_text())
    assert summary["dropped"]["held_out_instruction"] == 2
    assert summary["rows"] == 40
    assert summary["ended"].startswith("block 0 of the synthetic pool has 40 of 40 rows after 9 ")
    held_out = {same(row.instruction) for row in made[:2]}
    assert not held_out & {same(r.instruction) for r in rows_of(job)}
    inputs = {"split": tmp_path / "planted", "block.0": job.out}
    trained_on = files.job(config, tmp_path / "subset", {"data_size": 40}, **inputs)
    subset.run(trained_on)
    counted = json.loads((trained_on.out / "summary.json").read_text())
    assert (counted["synthetic"], counted["contaminated_synthetic"]) == (40, 0)
    assert counted["leaks_refused"] == 2


def test_a_crash_in_the_middle_changes_no_byte_and_asks_no_call_twice(
    config: Config, tmp_path: Path
) -> None:
    human = split_rows(config, tmp_path / "split")
    whole = stage(config, tmp_path, split=human)
    run(whole)
    crashed = stage(config, tmp_path, split=human)
    lines = (whole.scratch / "replies.jsonl").read_text().splitlines(keepends=True)
    kept = "".join(lines[3:6]) + lines[0][:20]  # three replies out of order, and a torn line
    (crashed.scratch / "replies.jsonl").write_text(kept)
    run(crashed)
    for name in ("rows.jsonl", "summary.json"):
        assert (crashed.out / name).read_bytes() == (whole.out / name).read_bytes()
    replies = (crashed.scratch / "replies.jsonl").read_text()
    calls = [json.loads(line)["call"] for line in replies.splitlines()]
    assert len(calls) == len(set(calls)) == len(lines)


def test_a_teacher_that_refuses_ends_in_one_sentence_with_what_it_said(
    config: Config, tmp_path: Path
) -> None:
    at = tmp_path / "split"
    at.mkdir()
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Who wrote this?"},
        {"role": "assistant", "content": "I did."},
    ]
    log = RowLog(at, Coverage)
    log.append([Coverage("a", "a", messages, "t", None, "test", "train")])
    log.finish()
    with pytest.raises(BadInput, match=r"0 of 40 rows.*refusal.*the teacher said") as error:
        run(stage(config, tmp_path, split=at))
    assert "\n" not in str(error.value)
