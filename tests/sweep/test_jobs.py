"""What is known of jobs: what they need, when one is tried again, what Slurm's words mean."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from support import configs
from understudy.errors import BadInput
from understudy.pipeline import waits
from understudy.pipeline.standing import JobEnd
from understudy.store import locks, sharing
from understudy.sweep import environment, jobs, slurm
from understudy.sweep.arrays import Ask
from understudy.sweep.jobs import Record

# --- the environment ------------------------------------------------------------------------------

HERE = {"PATH": "/usr/bin:/bin", "HF_HOME": "/data/it's hf", "HF_TOKEN": "t", "MY_KEY": "k"}
HERE |= {"https_proxy": "http://me:secret@proxy", "no_proxy": "here", "UNDERSTUDY_ROOT": "../runs"}
HERE |= {"EDITOR": "emacs", "SITE_DATA": "/data", "CUDA_VISIBLE_DEVICES": "3"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The variables that a job needs of an environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    found = environment.names([], ["understudy", "run", "coverage.path=${oc.env:SITE_DATA}"])
    return sorted({*found, "MY_KEY"})  # as a service asks for it


def test_a_job_gets_the_variables_it_needs_and_no_key_is_written(
    here: list[str], tmp_path: Path
) -> None:
    setup = tmp_path / "site.sh"
    setup.write_text("export FROM_SITE=$HF_HOME\ncd /\n")
    script = tmp_path / "1.sh"
    script.write_text(environment.script(here, setup))
    text = script.read_text()
    assert not [secret for secret in ("secret", "=t", "=k", "emacs", "DEVICES") if secret in text]
    shown = ["HF_HOME", "UNDERSTUDY_ROOT", "no_proxy", "SITE_DATA", "FROM_SITE", "PATH"]
    line = f"set -euo pipefail; . {script}; printf '%s\\n' {' '.join(f'${{{n}}}' for n in shown)}"
    line = line.replace("${", '"${').replace("}", '}"')
    for _ in range(2):
        done = subprocess.run(
            ["/bin/bash", "-c", f"{line}; pwd"], env={"PATH": "/opt/slurm"}, **CAPTURED
        )
        told = done.stdout.splitlines()
        assert told[:5] == ["/data/it's hf", "../runs", "here", "/data", "/data/it's hf"]
        assert told[5] == "/opt/slurm:/usr/bin:/bin"
        assert told[6] == os.getcwd()


CAPTURED = {"capture_output": True, "text": True, "check": True}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, []),
        ("ALL", []),
        ("ALL,A=1", []),
        ("NONE", ["--export=HF_TOKEN,MY_KEY,https_proxy"]),
        ("NIL", ["--export=HF_TOKEN,MY_KEY,https_proxy"]),
        ("A,B=2", ["--export=A,B=2,HF_TOKEN,MY_KEY,https_proxy"]),
    ],
)
def test_keys_are_handed_on_by_name_where_a_site_keeps_the_environment_back(
    given: str | None, told: list[str], here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is not None:
        monkeypatch.setenv("SBATCH_EXPORT", given)
    assert environment.options(here) == told


# --- jobs that have ended -------------------------------------------------------------------------

FAILED, CANCELLED = JobEnd(False, "FAILED"), JobEnd(True, "its job was cancelled")
LOST = JobEnd(False, "NODE_FAIL", is_lost=True)


@pytest.mark.parametrize(
    ("submission", "tries", "end", "has_failed", "again"),
    [
        ("other", 1, CANCELLED, False, True),
        ("other", 1, FAILED, True, True),
        ("other", 2, JobEnd(False, "out of time"), False, True),
        ("other", 1, None, False, True),
        ("other", 3, CANCELLED, False, False),  # two runs must not take turns for ever
        ("mine", 1, CANCELLED, False, False),
        ("mine", 1, FAILED, True, False),
        ("mine", 1, LOST, False, True),
        ("mine", 3, LOST, False, False),
        ("mine", 1, None, False, True),  # Slurm forgets within minutes
        ("mine", 2, None, False, False),
        ("mine", 1, None, True, False),
    ],
)
def test_which_jobs_a_planning_job_submits_anew(
    submission: str, tries: int, end: JobEnd | None, has_failed: bool, again: bool
) -> None:
    record = Record("7_1", submission, "7_1.log", tries=tries)
    assert jobs.may_try_again(record, end, "mine", has_failed) is again


def test_only_what_a_stage_s_own_job_is_asked_counts_as_changed() -> None:
    ask = Ask("finetune", "gpu", ("--mem=1024M",), None)
    old = jobs.terms(ask, configs.cluster(kind="slurm", threads=1))
    record = Record("7_1", "night", "7_1.log", terms=old)
    gpu, cpu = configs.resources(hours=3), configs.resources(hours=9)

    def changes(**given: object) -> list[str]:
        return record.changes(jobs.terms(ask, configs.cluster(kind="slurm", threads=1, **given)))

    assert changes(cpu=cpu, processes=4, throttle=5, resubmit=False) == []  # of no job's own
    assert changes(gpu=gpu, lead_seconds=90, setup="/a.sh") == [
        "cluster.gpu.hours: None → 3.0",
        "cluster.lead_seconds: 120 → 90",
        "cluster.setup: None → /a.sh",
    ]
    assert Record("7_1", "night", "7_1.log").changes(old) == []  # an older understudy's


# --- Slurm's words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "helps", "stuck"),
    [
        ("PartitionTimeLimit", "lower cluster.api.hours or change cluster.api.partition", True),
        ("MaxMemPerLimit", "lower cluster.api.memory_gb", True),
        ("AssocGrpCPUMinutesLimit", "change cluster.api.account", False),
        ("AssocGrpGRES", "other jobs under the same limit", False),
        ("QOSMaxMemoryPerUser", "other jobs under the same limit", False),
        ("QOSMaxWallDurationPerJobLimit", "lower cluster.api.hours", True),
        ("QOSMaxCpuPerJobLimit", "ask for less", True),
        ("BadConstraints", "cluster.api.constraint", True),
        ("InvalidQOS", "change cluster.api.qos", True),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "down or reserved", False),
        ("JobHeldUser", "scontrol release 7_1", False),
    ],
)
def test_why_a_job_waits_is_said_with_the_setting_that_helps(
    reason: str, helps: str, stuck: bool
) -> None:
    assert helps in waits.sentence("7_1", reason, "api")
    assert waits.is_stuck(reason) is stuck


@pytest.mark.parametrize("line", ["PENDING", "RUNNING", "SUSPENDED", "COMPLETING"])
def test_a_job_that_lives_has_not_ended(line: str) -> None:
    assert slurm.ending_in(f"JobId=7 JobState={line} Reason=None ExitCode=0:0") is None


@pytest.mark.parametrize("code", ["137:0", "0:9"])
def test_a_kill_is_said_to_be_for_memory(code: str) -> None:
    ended = slurm.ending_in(f"JobId=7 JobState=FAILED Reason=None ExitCode={code}")
    assert ended is not None
    assert "raise memory_gb" in ended.words


FULL = {
    "Slurm temporarily unable to accept job, sleeping and retrying": "temporarily unable",
    "QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)": "QOSMaxSubmitJob",
    "AssocGrpSubmitJobsLimit\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)": "AssocGrpSubmit",
}


def fake_sbatch(folder: Path, said: str) -> None:
    wait = "sleep 20" if "retrying" in said else "true"
    (folder / "sbatch").write_text(
        f"#!/bin/bash\ncat >&2 <<'END'\nsbatch: error: {said}\nEND\n{wait}\nexit 1\n"
    )
    (folder / "sbatch").chmod(0o755)


@pytest.mark.parametrize("said", FULL)
def test_a_full_queue_is_known_at_once_by_what_sbatch_says(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sbatch(tmp_path, said)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    began = time.monotonic()
    with pytest.raises(slurm.QueueFull, match=FULL[said]):
        slurm.submit(["sbatch", "--wrap=true"], "cpu")
    assert time.monotonic() - began < 10


def test_a_limit_that_no_waiting_helps_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sbatch(
        tmp_path,
        "QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BadInput, match=r"cluster\.gpu asks for .*QOSMaxWallDurationPerJobLimit"):
        slurm.submit(["sbatch", "--time=900", "--wrap=true"], "gpu")


# --- many users, many workers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "shared"), [(0o775, True), (0o2770, True), (0o755, False), (0o1777, False)]
)
def test_files_below_a_root_of_a_group_are_the_group_s_to_write(
    mode: int, shared: bool, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    root.chmod(mode)
    before = os.umask(0o077)
    try:
        sharing.share(root)
        (root / "file").touch()
        assert bool((root / "file").stat().st_mode & 0o020) is shared
        assert not (root / "file").stat().st_mode & 0o007
        assert bool(root.stat().st_mode & 0o2000) is shared
    finally:
        os.umask(before)


@pytest.mark.slow
def test_of_many_workers_that_wait_one_asks_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    (tmp_path / "squeue").write_text(f"#!/bin/bash\necho x >>{calls}\necho RUNNING\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lock = tmp_path / "LOCK"
    lock.write_text(
        '{"host": "elsewhere", "boot": "b", "pid": 1, "started": "1", "slurm_job": "7", '
        '"slurm_restarts": "0"}'
    )
    over = threading.Event()

    def wait() -> None:
        with locks.hold(lock, over.is_set) as is_mine:
            assert not is_mine

    workers = [threading.Thread(target=wait) for _ in range(8)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    over.set()
    for worker in workers:
        worker.join()
    assert calls.read_text().split() == ["x"]
