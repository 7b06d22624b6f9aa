"""Sweeps on a real Slurm: every stage once, through failures, requeues and preemption."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from support import slurm_cluster as slurm
from support.slurm_cluster import understudy
from support.training_curves import assert_equal_within_tolerance

pytestmark = pytest.mark.slow
INTERRUPTIONS = int(os.environ.get("UNDERSTUDY_INTERRUPTIONS", "5"))  # four kinds, then any
TINY = slurm.TINY
SHORT = ["trainer.max_steps=2", "trainer.evaluations=1"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with slurm.running():
        yield


def run(root: Path, *words: str, code: int = 0) -> str:
    return understudy("run", *slurm.SMALL, *TINY, f"paths.root={root}", *words, code=code)


def start(root: Path, *words: str) -> "subprocess.Popen[bytes]":
    command = [*slurm.SMALL, *TINY, f"paths.root={root}", *words]
    return subprocess.Popen([sys.executable, "-m", "understudy", "run", *command])


def done(root: Path, kind: str) -> list[Path]:
    return list(root.glob(f"rehearsal/{kind}/*/DONE"))


def test_a_sweep_runs_every_stage_once_and_is_the_local_one(tmp_path: Path) -> None:
    root = tmp_path / "with a space"
    axes = ["data_size=0,50", "task=coding,closed_qa", *SHORT, "run.name=grid"]
    axes += ["judge=offline,offline_lenient,offline_strict"]
    told = run(root, *axes)
    assert "submitted: 50 stages in " in told
    assert len(slurm.jobs()) > 12, "the command waited for its jobs"
    again = run(root, *axes)
    assert "submitted: 0 stages in 0 jobs" in again
    assert "queued before" in again
    slurm.wait_for_all()
    assert len(done(root, "finetune")) == 4
    assert len(done(root, "*")) == 50
    shown = understudy("status", "grid", "--root", str(root))
    assert shown.count("not passed") == 12, shown
    finished = run(root, *axes)
    assert "cells: 12, stages run: 0, finished before: 50" in finished
    assert "cells: 12, stages run: 0" in run(root, *axes, "cluster.kind=local")
    assert not slurm.jobs()
    logs = "".join(path.read_text() for path in root.glob("rehearsal/slurm/sweep/grid/*_*.log"))
    (jobs,) = re.findall(r"50 stages in (\d+) jobs", told)
    assert int(jobs) < 35
    assert logs.count("attempt 1: ") == int(jobs)
    assert "attempt 2: " not in logs


def test_a_cancelled_ladder_goes_on_and_a_job_plans_its_next_round(tmp_path: Path) -> None:
    ladder = ["loop.sizes=[0,25]", "trainer=none", "run.name=ladder"]
    run(tmp_path, *ladder)
    told = understudy("cancel", "ladder", "--root", str(tmp_path))
    assert "cancelled: " in told
    slurm.wait_for_all()
    assert not done(tmp_path, "gate")
    run(tmp_path, *ladder)
    slurm.wait_for_all()
    record = json.loads((tmp_path / "rehearsal/run/ladder/run.json").read_text())
    assert [step["data_size"] for step in record["rounds"]] == [0, 25]
    assert record["decision"]["passed"] is False
    assert (tmp_path / "rehearsal/run/ladder/report.html").is_file()


def test_a_second_run_waits_for_what_the_first_has_queued_and_keeps_it(tmp_path: Path) -> None:
    first = ["data_size=0", "trainer=none", "run.name=first"]
    second = ["data_size=0", "trainer=none", "run.name=second", "judge=offline_strict"]
    with slurm.nothing_starts():
        assert "submitted: 7 stages" in run(tmp_path, *first)
        told = run(tmp_path, *second)
        assert "submitted: 3 stages in 3 jobs, " in told
        assert "queued before" in told
        told = understudy("cancel", "first", "--root", str(tmp_path))
        assert "jobs that second waits for" in told
    slurm.wait_for_all()
    assert [len(done(tmp_path, kind)) for kind in ("inference", "evaluation", "gate")] == [1, 2, 1]
    record = json.loads((tmp_path / "rehearsal/run/second/run.json").read_text())
    assert record["decision"] is not None


def test_where_nodes_may_not_submit_the_same_command_goes_on(tmp_path: Path) -> None:
    ladder = ["loop.sizes=[0,25]", "trainer=none", "run.name=ladder", "cluster.resubmit=false"]
    assert "the same command goes on here: understudy run" in run(tmp_path, *ladder)
    slurm.wait_for_all()
    assert len(done(tmp_path, "gate")) == 1
    assert "submitted: 2 stages in " in run(tmp_path, *ladder)
    slurm.wait_for_all()
    assert "not passed: " in run(tmp_path, *ladder)
    assert len(done(tmp_path, "gate")) == 2


def test_a_failed_cell_blocks_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    sweep = ["data_size=0", "seed=0,1", *SHORT, "run.name=half"]
    lines = run(tmp_path / "other", *sweep, "cluster.kind=dry_run").splitlines()
    assert "sbatch" in lines[0]
    assert not (tmp_path / "other").exists()
    run(tmp_path, *sweep)
    broken = min(tmp_path.glob("rehearsal/finetune/*"))
    (broken / "attempts").touch()  # where its attempts should be
    slurm.wait_for_all()
    assert len(done(tmp_path, "finetune")) == len(done(tmp_path, "gate")) == 1
    shown = understudy("status", "half", "--root", str(tmp_path))
    shown = " ".join(shown.replace("│", " ").split())
    assert f"finetune/{broken.name} failed: FileExistsError" in shown
    assert "1 failed, 3 blocked" in shown
    assert "not passed" in shown
    (broken / "attempts").unlink()
    assert "submitted: 4 stages in 4 jobs" in run(tmp_path, *sweep)
    slurm.wait_for_all()
    assert len(done(tmp_path, "gate")) == 2


def test_what_slurm_refuses_is_one_sentence_and_leaves_no_job(tmp_path: Path) -> None:
    told = run(tmp_path, "data_size=0", "cluster.gpu.partition=nowhere", code=2)
    assert "Slurm refuses what cluster.gpu asks for (--partition=nowhere" in told
    assert "the partitions are low, main" in told
    slurm.wait_for_all()


def test_a_run_whose_jobs_can_never_start_starves_no_other(tmp_path: Path) -> None:
    cell = ["data_size=0", "trainer=none"]
    slurm.ask("scontrol", "update", "PartitionName=low", "State=DOWN")
    try:
        run(tmp_path / "stuck", *cell, "cluster.api.partition=low")
        run(tmp_path / "free", *cell)
        started = time.monotonic()
        has_decided = partial(done, tmp_path / "free", "gate")
        slurm.wait_until(lambda: bool(has_decided()), "the other run waits", seconds=60)
        print(f"decided after {time.monotonic() - started:.1f} s beside a run that cannot start")
        assert not done(tmp_path / "stuck", "gate")
    finally:
        understudy("cancel", "latest", "--root", str(tmp_path / "stuck"))
        slurm.ask("scontrol", "update", "PartitionName=low", "State=UP")
        slurm.cancel_all()


@pytest.mark.parametrize("body", ["gpu-stage", "cpu-stage"])
def test_only_the_warned_task_of_an_array_is_queued_again(tmp_path: Path, body: str) -> None:
    (tmp_path / "tasks").write_text(f"1\t{tmp_path}/one\n2\t{tmp_path}/two\n")
    worker = tmp_path / "worker"  # it does what ours does with a warning
    worker.write_text("#!/bin/bash\ntrap 'exit 130' USR1 TERM\nwhile :; do sleep 0.1; done\n")
    worker.chmod(0o755)
    common = ["sbatch", "--parsable", "--array=1-2", "-c1", "--mem=200M", f"-o{tmp_path}/%a.log"]
    script = Path(__file__).parents[2] / "slurm" / f"{body}.sbatch"
    array = slurm.ask(*common, str(script), str(worker), str(tmp_path / "tasks"))
    after = ["--kill-on-invalid-dep=yes", f"--dependency=aftercorr:{array}", "--wrap=true"]
    waiting = slurm.ask(*common, *after)
    stands = partial(slurm.jobs, "%i %T %r", "-j", f"{array},{waiting}")
    slurm.wait_until(lambda: str(stands()).count("RUNNING") == 2, "they do not start")
    time.sleep(1)
    slurm.ask("scancel", "--batch", "--signal=USR1", f"{array}_2")  # whose job id is the array's
    expected = {f"{array}_1 RUNNING None", f"{array}_2 PENDING BeginTime"}
    expected |= {f"{waiting}_{index} PENDING Dependency" for index in (1, 2)}
    slurm.wait_until(lambda: {*stands()} == expected, "not so", hurrying=False)
    assert [slurm.restarts(f"{array}_{index}") for index in (1, 2)] == [0, 1]
    assert "queued again to go on" in (tmp_path / "2.log").read_text()
    slurm.ask("scancel", f"{array}_1")  # which must not bring it back
    slurm.wait_until(lambda: f"{waiting}_1" not in str(stands()), "not cancelled", hurrying=False)
    assert f"{array}_1" not in str(stands())
    slurm.ask("scancel", array, waiting)
    slurm.wait_for_all()


def test_two_nodes_train_as_one_and_go_on_together(tmp_path: Path) -> None:
    cell = ["data_size=0", "trainer.max_steps=16", "trainer.evaluations=8", "run.name=cell"]
    spread = ["accelerate=ddp", "accelerate.processes=1", "accelerate.nodes=2"]
    run(tmp_path / "two", *cell, *spread)
    (stage,) = tmp_path.glob("two/rehearsal/finetune/*")
    job = json.loads((stage / "slurm.json").read_text())["job"]
    slurm.wait_until(lambda: newest_checkpoint(stage) > 0, "it does not train")
    slurm.ask("scancel", "--batch", "--signal=USR1", job)
    slurm.wait_until(lambda: not slurm.jobs("%i", "-j", job), "it does not end")
    said = slurm.ask("scontrol", "-o", "show", "job", job)
    assert re.search(r"JobState=COMPLETED .* Restarts=1 .* NodeList=n\[1-2\] ", said)
    assert json.loads((stage / "meta.json").read_text())["processes"] == 2
    understudy("cancel", "cell", "--root", str(tmp_path / "two"))
    run(tmp_path / "one", *cell, "cluster.kind=local")
    alone = tmp_path / "one" / stage.relative_to(tmp_path / "two")
    assert_equal_within_tolerance(stage / "out", alone / "out")
    slurm.wait_for_all()


def test_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    steps = 80 + 14 * INTERRUPTIONS  # enough to be there when the last one comes
    cell = ["data_size=0", f"trainer.max_steps={steps}", f"trainer.evaluations={steps // 2}"]
    cell += ["trainer.patience=null", f"trainer.epochs={steps}", "run.name=cell"]
    with start(tmp_path / "straight", *cell, "cluster.kind=local") as straight:
        run(tmp_path, *cell, "cluster.gpu.partition=low")
        (stage,) = tmp_path.glob("rehearsal/finetune/*")
        kinds = [*INTERRUPT, *random.choices([*INTERRUPT], k=INTERRUPTIONS - len(INTERRUPT))]
        random.shuffle(kinds)
        for kind in kinds[:-1]:
            interrupt(stage, kind)
        slurm.wait_until(lambda: newest_checkpoint(stage) > 0, "it does not train")
        interrupt(stage, kinds[-1])
        slurm.wait_for_all()
        assert json.loads((stage / "out/summary.json").read_text())["steps"] == steps
        (log,) = (
            path.read_text()
            for path in tmp_path.glob("rehearsal/slurm/run/cell/*.log")
            if str(stage) in path.read_text()
        )
        assert log.count(": " + str(stage)) == len(kinds) + 1, log
    assert straight.returncode == 0
    assert contents(tmp_path / "straight") == contents(tmp_path)


def newest_checkpoint(stage: Path) -> int:
    found = stage.glob("attempts/*/scratch/checkpoints/checkpoint-*/COMPLETE")
    return max((int(path.parent.name.rpartition("-")[2]) for path in found), default=0)


INTERRUPT: dict[str, Callable[[str, str], object]] = {  # of a job on a node
    "requeued": lambda job, _: slurm.ask("scontrol", "requeue", job),
    "node down": lambda _, node: slurm.set_node(node, "down"),
    "preempted": lambda *_: slurm.ask(
        *("sbatch", "-p", "main", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 1")
    ),
    # Less than cluster.lead_seconds is left; Slurm looks every half minute.
    "out of time": lambda job, _: slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=2"),
}


def interrupt(stage: Path, kind: str) -> None:
    """Interrupt the job at any moment of its next attempt, and wait until it is queued again."""
    print(kind, newest_checkpoint(stage))
    job = json.loads((stage / "slurm.json").read_text())["job"]
    state = partial(slurm.jobs, "%T", "-j", job)
    slurm.wait_until(lambda: state() == ["RUNNING"], "it does not start")
    time.sleep(0.5 if kind == "out of time" else random.uniform(0.5, 15))  # to the first step: 9 s
    restarts, (node,) = slurm.restarts(job), slurm.jobs("%N", "-j", job)
    INTERRUPT[kind](job, node)

    def is_back() -> bool:
        return slurm.restarts(job) > restarts and state() == ["PENDING"]

    slurm.wait_until(is_back, f"it was not {kind}", hurrying=False)
    if kind == "node down":  # the other node takes it
        slurm.wait_until(lambda: state() == ["RUNNING"], "it does not run elsewhere")
        slurm.set_node(node, "idle")
    if kind == "out of time":
        slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=60")


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.glob("rehearsal/*/*/out/**/*")
        if path.is_file()
    }
