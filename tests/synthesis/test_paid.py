"""Blocks bought from the rehearsal server: the order of arrival, money, budgets, floors, kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.synthetic import split_rows
from understudy.config import Config
from understudy.errors import BadInput, BudgetSpent
from understudy.pipeline import stages
from understudy.pipeline.flow import Flow
from understudy.records import Synthetic, read_rows
from understudy.rehearsal.server import RehearsalServer
from understudy.services.journal import Total, open_journal
from understudy.store.artifacts import Job, StageDir
from understudy.synthesis import stage

Make = Callable[..., Config]


def config_of(composed: Make, server: RehearsalServer, *overrides: str) -> Config:
    splits = ("coverage.split.test=10", "coverage.split.validation=8")
    return composed("synthesis=gpt_4o", f"rehearsal.url={server.url}", *splits, *overrides)


def block(config: Config, at: Path, split: Path, rows: int = 40) -> Job:
    for name in ("out", "scratch"):
        (at / name).mkdir(parents=True)
    params = {"block": 0, "rows": rows}
    inputs = {"split": split}
    return Job(config, params, inputs, at / "out", at / "scratch", at, "synthesis/0", "run/t")


def total(job: Job) -> Total:
    with open_journal(job.root / "journal") as journal:
        (found,) = journal.totals(stage=job.stage)
    return found


def summary(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.out / "summary.json").read_text())
    return found


@pytest.mark.slow
def test_in_twenty_orders_of_arrival_the_bytes_are_the_same(composed: Make, tmp_path: Path) -> None:
    found, orders, split = set(), set(), None
    for number in range(20):
        settings = {"latency_s": 0.01, "latency_spread": 1.0, "seed": number, "repeatable": True}
        with RehearsalServer(**settings) as server:
            config = config_of(composed, server)
            split = split or split_rows(config, tmp_path / "split")
            job = block(config, tmp_path / str(number), split)
            stage.run(job)
        lines = (job.scratch / "replies.jsonl").read_text().splitlines()
        orders.add(tuple(json.loads(line)["call"] for line in lines))
        found.add(tuple((job.out / name).read_bytes() for name in ("rows.jsonl", "dropped.jsonl")))
    assert len(orders) > 10
    assert len(found) == 1


def test_the_cost_of_a_row_is_the_ledger_by_the_rows(composed: Make, tmp_path: Path) -> None:
    with RehearsalServer() as server:
        config = config_of(composed, server)
        job = block(config, tmp_path / "a", split_rows(config, tmp_path / "split"))
        stage.run(job)
        bill = server.bill()
    found = summary(job)
    assert total(job).microusd == bill.microusd > 0
    assert found["usd"] == bill.microusd / 1e6
    assert found["usd_per_row"] == found["usd"] / found["rows"] == found["usd"] / 40


@pytest.mark.slow
def test_a_budget_ends_a_block_in_one_sentence_that_names_what_is_missing(
    composed: Make, tmp_path: Path
) -> None:
    with RehearsalServer() as server:
        config = config_of(composed, server, "budget.usd=0.2", "synthesis.service.concurrency=2")
        split = split_rows(config, tmp_path / "split")
        job = block(config, tmp_path / "a", split, rows=300)
        sentence = r"of 300 rows.*are missing, which would cost about \$\d.*budget.usd=0.2"
        with pytest.raises(BudgetSpent, match=sentence) as error:
            stage.run(job)
    assert "\n" not in str(error.value)
    assert total(job).microusd <= 200_000


@pytest.mark.slow
@pytest.mark.parametrize("floor", [0.1, 0])
def test_a_yield_under_the_floor_ends_a_block_in_one_sentence(
    floor: float, composed: Make, tmp_path: Path
) -> None:
    with RehearsalServer(faults="refusal=1") as server:
        config = config_of(composed, server, f"synthesis.min_yield={floor}")
        job = block(config, tmp_path / "a", split_rows(config, tmp_path / "split"), rows=500)
        with pytest.raises(BadInput, match=r"0 of 500 rows.*500 are missing.*0.0% were new"):
            stage.run(job)
        assert len(server.log) <= 40 + 2 * config.services[0].concurrency + 100


@pytest.mark.slow
def test_killed_again_and_again_a_generation_loses_and_doubles_no_row(
    composed: Make, tmp_path: Path
) -> None:
    rng = random.Random(0)
    with RehearsalServer(latency_s=0.05, repeatable=True) as server:
        config = config_of(composed, server, "synthesis.service.concurrency=32")
        straight = stage_of(config, tmp_path / "straight")
        assert work(straight).wait() == 0
        killed, kills = stage_of(config, tmp_path / "killed"), 0
        while kills < 8:
            before = len(server.log)
            process = work(killed)
            while len(server.log) < before + rng.randint(20, 200) and process.poll() is None:
                time.sleep(0.005)
            if process.poll() is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        assert kills >= 5
        assert work(killed).wait() == 0
    rows = list(read_rows(killed.out / "rows.jsonl", Synthetic))
    assert len(rows) == len({row.id for row in rows}) == 5000
    for name in ("rows.jsonl", "dropped.jsonl"):
        assert (killed.out / name).read_bytes() == (straight.out / name).read_bytes()


def stage_of(config: Config, root: Path) -> StageDir:
    """A block of 5,000 rows, ready for its worker."""
    flow = Flow(config)
    split = StageDir(root / flow.split.path)
    split.path.mkdir(parents=True)
    split_rows(config, split.out, 1100)  # equal prompts would get equal replies here
    made = stages.StageMaker(config)("synthesis", {"block": 0, "rows": 5000}, {"split": flow.split})
    stage = StageDir(root / made.path)
    inputs = {"command": "test", "inputs": {"split": flow.split.path}, "purse": "run/test"}
    stage.prepare(stages.frozen(made, config), inputs)
    return stage


def work(stage: StageDir) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "understudy.pipeline.worker", str(stage.path)])
