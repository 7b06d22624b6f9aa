"""A site's ways: options of sbatch, containers, a setup file, the code that jobs run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import configs, house
from support import slurm_cluster as slurm
from understudy.cli.main import main
from understudy.config.cluster import check_options
from understudy.config.compose import compose
from understudy.errors import BadInput
from understudy.sweep import site

# An `apptainer` that notes how it was called, then does it without any image.
FAKE = """#!/usr/bin/env bash
echo "$SITE $*" >>"$(dirname "$0")/calls"
[ "$1 $2 $3" = "exec --nv image.sif" ] || exit 9
shift 3
exec "$@"
"""


@pytest.fixture
def apptainer(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "apptainer"
    path.parent.mkdir()
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


# --- options of sbatch ----------------------------------------------------------------------------

REFUSED = {
    "--partition=long": "contradicts cluster.gpu.partition",
    "--part=long": "contradicts cluster.gpu.partition",  # sbatch takes beginnings
    "-plong": "contradicts cluster.gpu.partition",
    "--gpus-per-node=4": "contradicts cluster.gpu.gpus",
    "--mem-per-cpu=2G": "contradicts cluster.gpu.memory_gb",
    "--time=1": "contradicts cluster.gpu.hours",
    "--array=1-3": "--array is understudy's to set",
    "--dependency=singleton": "--dependency is understudy's to set",
    "-o/dev/null": "--output is understudy's to set",
    "--no-requeue": "--no-requeue is understudy's to set",
    "--export=NONE": "--export is understudy's to set",
    "--wrap=true": "--wrap is understudy's to set",
    "--nodes=2": "--nodes is understudy's to set: one process a node",
    "exclusive": "is no option of sbatch",
    "--reservation night": "give each as one word, --name=value",
    "": "is no option of sbatch",
}


@pytest.mark.parametrize("word", REFUSED)
def test_an_option_that_contradicts_ours_is_one_sentence(word: str) -> None:
    asked = configs.resources(gpus=1, memory_gb=8, hours=2, sbatch=("--exclusive", word))
    with pytest.raises(BadInput) as refused:
        check_options("gpu", asked)
    assert str(refused.value).startswith(f"cluster.gpu.sbatch: {word}")
    assert REFUSED[word] in str(refused.value)


def test_any_other_option_is_the_users(apptainer: Path) -> None:
    free = ("--exclusive", "--reservation=night", "--mail-type=END", "-x", "--nice", "--mem-bind=q")
    check_options("gpu", configs.resources(gpus=1, memory_gb=8, sbatch=free))
    mine = ("--gpus-per-node=4", "--mem-per-gpu=8G", "--time=30")  # where we ask for none of these
    check_options("gpu", configs.resources(gpus=0, sbatch=mine))


def test_options_are_typed_as_in_a_shell() -> None:
    words = ["cluster.gpu.sbatch=[--reservation=night,-x n[1-3],'--comment=a, b']"]
    words += ["cluster.container=[apptainer,exec,--bind=/a:/b,my image.sif]"]
    cluster = compose(words, None)["cluster"]
    assert cluster["gpu"]["sbatch"] == ["--reservation=night", "-x n[1-3]", "--comment=a, b"]
    assert cluster["container"] == ["apptainer", "exec", "--bind=/a:/b", "my image.sif"]
    assert compose(["cluster.cpu.sbatch=[]"], None)["cluster"]["cpu"]["sbatch"] == []


# --- what a job starts ----------------------------------------------------------------------------


def started(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WHERE = (
    "import understudy; from understudy import locations as l; print(l.PACKAGE, l.shared('conf'))"
)


def test_jobs_run_a_copy_of_the_code_in_the_container_and_the_planner_without(
    tmp_path: Path, apptainer: Path
) -> None:
    image = (str(apptainer), "exec", "--nv", "image.sif")
    cluster, folder = configs.cluster(kind="slurm", threads=1, container=image), tmp_path / "run"
    folder.mkdir()
    site.write(cluster, folder, is_idle=True)
    (code,) = folder.glob("code-*")
    pythons = site.pythons(cluster, folder)
    for python in pythons:
        assert started(python, WHERE) == f"{code}/src/understudy {code}/conf"
    calls = (apptainer.parent / "calls").read_text().splitlines()
    assert len(calls) == 1, "the planner asks Slurm, which no image has"
    assert "exec --nv image.sif env PYTHONSAFEPATH=1 PYTHONPATH=" in calls[0]
    assert json.loads((code / "commit.json").read_text()) == commit_of(house.ROOT)


def commit_of(checkout: Path) -> dict[str, object]:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(checkout), *words], capture_output=True, text=True
        ).stdout.strip()

    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def test_a_copy_is_made_once_small_and_removed_with_the_last_job(tmp_path: Path) -> None:
    cluster = configs.cluster(kind="slurm", threads=1)
    site.write(cluster, tmp_path, is_idle=True)
    (code,) = tmp_path.glob("code-*")
    inode = code.stat().st_ino
    (tmp_path / "code-older").mkdir()
    site.write(cluster, tmp_path, is_idle=False)
    assert (tmp_path / "code-older").is_dir(), "a job may wait for it"
    site.write(cluster, tmp_path, is_idle=True)
    assert [path.name for path in tmp_path.glob("code-*")] == [code.name]
    assert code.stat().st_ino == inode
    assert sum(path.stat().st_size for path in code.rglob("*")) < 8e6
    site.clean(tmp_path)
    assert not list(tmp_path.glob("code-*"))
    done = subprocess.run(
        [site.pythons(cluster, tmp_path).stages, "-c", "1"], capture_output=True, text=True
    )
    assert done.returncode == 4
    assert "the code of this job, is gone; type its command again" in done.stderr


def test_without_a_snapshot_jobs_run_the_code_as_it_is_then(tmp_path: Path) -> None:
    cluster = configs.cluster(kind="slurm", threads=1, snapshot=False, python="/opt/python3")
    site.write(cluster, tmp_path, is_idle=True)
    assert not list(tmp_path.glob("code-*"))
    stages, planner = site.pythons(cluster, tmp_path)
    assert stages.read_text().splitlines()[-1] == 'exec /opt/python3 "$@"'
    assert planner.read_text().splitlines()[-1] == f'exec {sys.executable} "$@"'


def test_a_setup_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    cluster = configs.cluster(kind="slurm", threads=1, setup=str(tmp_path / "env.sh"))
    with pytest.raises(BadInput, match=r"cluster\.setup=.*env\.sh is no file"):
        site.write(cluster, tmp_path, is_idle=True)


# --- on a real Slurm ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with slurm.running():
        yield


TINY = (
    *("coverage.rows=24", "coverage.split.test=4", "coverage.split.validation=4"),
    *("inference.k=1", "inference.max_new_tokens=8", "evaluation.m=1", "data_size=0"),
    *("trainer=none", "run.name=cell"),
)


def understudy(*words: str, code: int = 0, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "understudy", *words],
        **{"env": os.environ | env, "capture_output": True, "text": True, "timeout": 900},
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_run_goes_through_a_sites_container_setup_flags_and_scratch(
    tmp_path: Path, apptainer: Path
) -> None:
    root = tmp_path / "with a space"
    setup = tmp_path / "env.sh"
    setup.write_text(f"export SITE=ours\nexport NODE_DISK='{tmp_path}/node disk'\n")
    site_words = [
        f"cluster.container=['{apptainer}',exec,--nv,image.sif]",
        *(f"cluster.setup={setup}", "cluster.scratch=$NODE_DISK/x"),
        *("cluster.gpu.sbatch=['--comment=for a gpu']", "cluster.api.sbatch=['--comment=judge']"),
    ]
    with slurm.nothing_starts():
        understudy("run", *slurm.SMALL, *TINY, *site_words, f"paths.root={root}")
        comments = slurm.ask("scontrol", "-o", "show", "job").splitlines()
        told = [line for line in comments if "Comment=" in line]
        assert [
            line.partition("JobName=cell-")[2].split()[0] for line in told if "=for a gpu" in line
        ] == ["inference"]
        assert any("=judge" in line for line in told)
    slurm.wait_for_all()
    assert len(list(root.glob("rehearsal/gate/*/DONE"))) == 1
    stages = {path.parent for path in root.glob("rehearsal/*/*/DONE")}
    calls = (apptainer.parent / "calls").read_text().splitlines()
    assert all(sum(str(stage) in call for call in calls) == 1 for stage in stages)
    assert all(call.startswith("ours exec --nv image.sif env ") for call in calls)
    disk = tmp_path / "node disk" / "x" / f"understudy-{os.getuid()}"
    assert list(disk.iterdir()) == [], "what the stages worked on has moved"
    assert not any(path.name in ("attempts", "moves") for path in root.rglob("*"))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_queued_jobs_run_the_code_that_was_submitted(tmp_path: Path) -> None:
    checkout, root = tmp_path / "checkout", tmp_path / "runs"
    for name in ("src", "conf", "analysis", "slurm"):
        shutil.copytree(
            house.ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(house.ROOT / "pyproject.toml", checkout)
    words = ("run", *slurm.SMALL, *TINY, f"paths.root={root}")
    with slurm.nothing_starts():
        understudy(*words, PYTHONPATH=str(checkout / "src"))
        shutil.rmtree(checkout / "src")  # whoever works on it has other plans
    slurm.wait_for_all()
    assert len(list(root.glob("rehearsal/gate/*/DONE"))) == 1
    record = json.loads((root / "rehearsal/run/cell/run.json").read_text())
    assert record["decision"] is not None, "the planning job runs what was submitted, too"
    understudy(*words)
    assert not list(root.glob("rehearsal/slurm/run/cell/code-*")), "no job needs it any more"


def test_api_stages_that_stay_here_are_in_no_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "data_size=0", "cluster=dry_run", "cluster.api=here"]
    assert main([*command, f"paths.root={tmp_path}/runs"]) == 0
    printed = capsys.readouterr().out
    assert "1 finetune" in printed
    assert "evaluation" not in printed
    assert "# 3 stages are done on this machine; what needs them is queued then" in printed
    assert "--wrap" not in printed, "the command itself goes on"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_where_nodes_have_no_network_the_command_stays_for_what_needs_one(tmp_path: Path) -> None:
    ladder = [word for word in TINY if word != "data_size=0"]
    ladder += ["loop.sizes=[0,25]", "gate.precision=100", "cluster.api=here", "trainer=tiny"]
    ladder += ["trainer.max_steps=2", "trainer.evaluations=1"]
    told = understudy("run", *slurm.SMALL, *ladder, f"paths.root={tmp_path}")
    assert "not passed: " in told
    assert told.count("here: ") == 5  # a baseline, its verdicts, a block, two rounds' verdicts
    assert told.count("here: synthesis/") == 1
    asked = {path.parent.parent.name for path in tmp_path.glob("rehearsal/*/*/slurm.json")}
    assert asked >= {"finetune", "inference", "gate", "subset"}
    assert not asked & {"synthesis", "baseline", "evaluation"}
    assert not slurm.jobs(), "no job plans what the command does"
    assert len(list(tmp_path.glob("rehearsal/gate/*/DONE"))) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_stage_that_fails_in_a_job_ends_the_wait_for_it(tmp_path: Path) -> None:
    words = [*slurm.SMALL, *TINY, "cluster.api=here", f"paths.root={tmp_path}"]
    with slurm.nothing_starts():
        asked = [sys.executable, "-m", "understudy", "run", *words]
        with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as command:
            slurm.wait_until(lambda: bool(slurm.jobs()), "nothing is submitted")
            slurm.wait_until(lambda: bool([*tmp_path.glob("rehearsal/inference/*")]), "no stage")
            (broken,) = tmp_path.glob("rehearsal/inference/*")
            (broken / "attempts").touch()  # where its attempts should be
            for partition in ("main", "low"):
                slurm.ask("scontrol", "update", f"PartitionName={partition}", "State=UP")
            said, _ = command.communicate(timeout=900)
    assert command.returncode == 0
    assert "nothing more can be done; watch: understudy status cell" in said
    assert not slurm.jobs()
