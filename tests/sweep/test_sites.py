"""What real sites do to a submission: clean environments, colleagues, limits, kills."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import slurm_cluster as slurm
from support.slurm_cluster import understudy

pytestmark = pytest.mark.slow
ONE = ["data_size=0", "trainer=none"]  # seven stages in six jobs
COLLEAGUE = "nobody"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with slurm.running():
        yield


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    yield
    subprocess.run(["scancel", *slurm.jobs("%F")])
    slurm.wait_for_all()


def words(root: Path, name: str, *more: str) -> list[str]:
    return ["run", *slurm.SMALL, *slurm.TINY, *ONE, f"paths.root={root}", f"run.name={name}", *more]


def record(root: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / f"rehearsal/run/{name}/run.json").read_text())
    return found


def stage_jobs() -> list[str]:
    """Jobs of stages; without those that plan."""
    return [line.split()[0] for line in slurm.jobs("%F_%K %j") if not line.endswith("-plan")]


# --- a clean environment --------------------------------------------------------------------------


def test_a_site_that_hands_jobs_no_environment_loses_nothing(tmp_path: Path) -> None:
    here, root = tmp_path / "here", tmp_path / "there"
    (here / "mine/local").mkdir(parents=True)
    own = "# @package _global_\nseed: ${oc.decode:${oc.env:MY_SEED}}\n"
    (here / "mine/local/default.yaml").write_text(own)
    setup = here / "site.sh"
    setup.write_text("export SBATCH_EXPORT=NONE\nunset UNDERSTUDY_ROOT\ncd /\n")
    given = ["run", "--config-dir", "mine", *slurm.SMALL, *slurm.TINY, "trainer=none"]
    given += ["loop.sizes=[0,25]", "run.name=ladder", "cluster.setup=site.sh"]
    clean = {"SBATCH_EXPORT": "NONE", "UNDERSTUDY_ROOT": "../there", "MY_SEED": "3"}
    understudy(*given, cwd=here, **clean)
    slurm.wait_for_all()
    assert not (here / "runs").exists(), "it began again where the command was typed"
    found = json.loads((root / "rehearsal/run/ladder/run.json").read_text())
    assert [step["data_size"] for step in found["rounds"]] == [0, 25]
    assert found["decision"] is not None
    assert found["config"]["seed"] == 3


# --- other runs -----------------------------------------------------------------------------------


def test_what_another_run_has_cancelled_is_submitted_anew_by_the_planning_job(
    tmp_path: Path,
) -> None:
    with slurm.nothing_starts():
        understudy(*words(tmp_path, "first"))
        theirs = slurm.jobs("%F")
        told = understudy(*words(tmp_path, "second", "judge=offline_strict"))
        assert "submitted: 3 stages" in told
        slurm.ask("scancel", *theirs)
    slurm.wait_for_all()
    assert record(tmp_path, "second")["decision"] is not None


def test_a_job_that_failed_for_this_run_is_not_tried_again_and_again(tmp_path: Path) -> None:
    with slurm.nothing_starts():
        understudy(*words(tmp_path, "first"))
        broken = next((tmp_path / "rehearsal").glob("coverage/*"))
        (broken / "attempts").touch()  # where its attempts should be
    slurm.wait_for_all()
    assert record(tmp_path, "first")["decision"] is None
    said = understudy("status", "first", "--root", str(tmp_path))
    assert "failed: FileExistsError" in " ".join(said.split())


# --- a colleague ----------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A root that a group may write; beside it the Python of a colleague who belongs to it."""
    if os.getuid() != 0:
        pytest.skip("only root can be two users")
    with tempfile.TemporaryDirectory(prefix="understudy-shared-", dir="/tmp") as folder:
        root = Path(folder) / "runs"
        root.mkdir()
        Path(folder).chmod(0o755)
        slurm.ask("chgrp", "nogroup", str(root))
        root.chmod(0o2775)
        home = Path(folder) / "venv"
        slurm.ask(python_for_all(), "-m", "venv", "--without-pip", str(home))
        (packages,) = home.glob("lib/python*/site-packages")
        paths = [path for path in sys.path if path.endswith(("site-packages", "src"))]
        (packages / "ours.pth").write_text("\n".join(paths))
        yield root


def python_for_all() -> str:
    """A Python of this version that any user may start; skips where there is none."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        asked = ["runuser", "-u", COLLEAGUE, "--", path, "-c", ""]
        if subprocess.run(asked, capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no {version} that {COLLEAGUE} may start")


def colleague(root: Path, *given: str, code: int = 0) -> str:
    python = root.with_name("venv") / "bin" / "python"
    command = ["runuser", "-u", COLLEAGUE, "--", str(python), "-m", "understudy", *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=300)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def test_two_users_of_one_root_submit_every_stage_once(shared: Path) -> None:
    with slurm.nothing_starts():
        understudy(*words(shared, "ours"))
        queued = stage_jobs()
        assert len(queued) == 6
        told = colleague(shared, *words(shared, "ours"))
        assert "submitted: 0 stages in 0 jobs, 7 queued before" in told
        seen = colleague(shared, "status", "ours", "--root", str(shared))
        assert "failed" not in seen
        assert "queued: " in seen
        told = colleague(shared, *words(shared, "theirs", "judge=offline_strict"))
        assert "submitted: 3 stages" in told
        assert "queued before" in told
        assert "jobs of root, who alone" in colleague(
            shared, "cancel", "ours", "--root", str(shared)
        )
        assert set(queued) <= set(stage_jobs())
    slurm.wait_for_all()
    for name in ("ours", "theirs"):
        assert record(shared, name)["decision"] is not None
    own = ("python-", "planner-")  # scripts that start the Python of who submits
    closed = [
        path
        for path in shared.rglob("*")
        if not path.stat().st_mode & 0o020 and not path.name.startswith(own)
    ]
    assert not closed, "the colleague may not write these"


# --- settings that were wrong ---------------------------------------------------------------------


def test_a_corrected_setting_replaces_the_jobs_that_wait(tmp_path: Path) -> None:
    slurm.ask("scontrol", "update", "PartitionName=low", "MaxTime=10")
    try:
        understudy(*words(tmp_path, "wrong", "cluster.cpu.partition=low"))
        slurm.wait_until(
            lambda: "PartitionTimeLimit" in str(slurm.jobs("%r")), "it is not refused", False
        )
        said = " ".join(understudy("status", "wrong", "--root", str(tmp_path)).split())
        assert "PartitionTimeLimit" in said
        assert "lower cluster.cpu.hours or change cluster.cpu.partition" in said
        wrong = stage_jobs()
        told = understudy(*words(tmp_path, "wrong", "cluster.cpu.partition=main"))
        assert "cluster.cpu.partition: low → main" in told
        assert not set(wrong) & set(stage_jobs())
        assert "low" not in slurm.jobs("%P")
        slurm.wait_for_all()
        assert record(tmp_path, "wrong")["decision"] is not None
    finally:
        slurm.ask("scontrol", "update", "PartitionName=low", "MaxTime=INFINITE")


def test_what_another_run_has_queued_for_ever_is_taken_over(tmp_path: Path) -> None:
    slurm.ask("scontrol", "update", "PartitionName=low", "MaxTime=10")
    try:
        understudy(*words(tmp_path, "first", "cluster.cpu.partition=low"))
        slurm.wait_until(
            lambda: "PartitionTimeLimit" in str(slurm.jobs("%r")), "it is not refused", False
        )
        understudy(*words(tmp_path, "second", "judge=offline_strict"))
        slurm.wait_until(
            lambda: record(tmp_path, "second")["decision"] is not None, "it waits for the first"
        )
    finally:
        slurm.ask("scontrol", "update", "PartitionName=low", "MaxTime=INFINITE")


def test_a_name_is_not_given_to_other_science_while_its_jobs_are_queued(tmp_path: Path) -> None:
    with slurm.nothing_starts():
        understudy(*words(tmp_path, "night"))
        queued = slurm.jobs("%F_%K")
        for kind in ("slurm", "local"):
            other = words(tmp_path, "night", "task=coding", f"cluster.kind={kind}")
            told = understudy(*other, code=2)
            assert "task.name: closed_qa → coding" in told
            assert "understudy cancel night" in told
            assert "run.name=" in told
        assert slurm.jobs("%F_%K") == queued
        understudy("cancel", "night", "--root", str(tmp_path))
        assert "submitted: 7 stages" in understudy(*words(tmp_path, "night", "task=coding"))


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_submission_that_is_killed_leaves_no_job_that_cancel_does_not_know(
    tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    calls = tmp_path / "calls"
    real = slurm.ask("which", "sbatch")
    (slow / "sbatch").write_text(
        f'#!/bin/bash\necho x >>{calls}\n[ "$(wc -l <{calls})" != {call} ] || sleep 3\n'
        f'{real} "$@"\n[ "$(wc -l <{calls})" != {call} ] || sleep 3\n'
    )
    (slow / "sbatch").chmod(0o755)
    path = os.environ["PATH"]
    for moment in ("before", "after"):
        calls.unlink(missing_ok=True)
        with slurm.nothing_starts():
            monkeypatch.setenv("PATH", f"{slow}:{path}")
            command = [sys.executable, "-m", "understudy", *words(tmp_path / moment, "night")]
            with subprocess.Popen(command, start_new_session=True) as killed:
                slurm.wait_until(
                    lambda: calls.is_file() and len(calls.read_text().split()) == call, "no call"
                )
                time.sleep(1 if moment == "before" else 4)
                killed.send_signal(signal.SIGKILL)  # not its sbatch, which goes on
            monkeypatch.setenv("PATH", path)
            again = understudy(*words(tmp_path / moment, "night"))
            assert "submitted: " in again
            jobs = stage_jobs()
            assert len(jobs) == 6, "a stage was submitted twice, or not at all"
            assert len(slurm.jobs("%F")) == 7, "two jobs plan"
            understudy("cancel", "night", "--root", str(tmp_path / moment))
            assert not slurm.jobs()


def test_a_kill_for_memory_is_named(tmp_path: Path) -> None:
    understudy(*words(tmp_path, "fat", "cluster.resubmit=false"))
    stage = str(next((tmp_path / "rehearsal").glob("coverage/*")))
    command = ["pgrep", "-f", f"understudy.pipeline.worker {stage}"]

    def is_killed() -> bool:
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        for pid in found:
            os.kill(int(pid), signal.SIGKILL)
        return bool(found)

    slurm.wait_until(is_killed, "it does not run", False)
    slurm.wait_until(lambda: not slurm.jobs(), "jobs are left", False)
    said = " ".join(understudy("status", "fat", "--root", str(tmp_path)).split())
    assert "raise memory_gb" in said
    assert "a bug" not in said
