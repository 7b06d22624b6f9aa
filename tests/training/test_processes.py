"""Fine-tuning in two processes: the same curve as in one, and what signals and deaths cost.

Gloo on a CPU. DeepSpeed compiles for a minute on a machine where these tests never ran.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import launched, tiny_model
from support.training_curves import assert_equal_within_tolerance
from understudy.store.artifacts import StageDir
from understudy.training import finetune

pytestmark = pytest.mark.slow

FULL = {"trainer__max_steps": 8, "trainer__epochs": 10, "trainer__evaluations": 4}
# Rows of different lengths, several per packed sequence; no dropout, which draws per process.
LORA = {
    **{"trainer__kind": "lora", "trainer__lora_dropout": 0.0, "trainer__packing": True},
    **{"trainer__batch_size": 2, "trainer__epochs": 20, "trainer__max_steps": 24},
    **{"trainer__evaluations": 6, "trainer__min_steps": 24},
}


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function: changes of the config → out/ of the same fine-tuning in this process."""
    made: dict[str, Path] = {}

    def out(**changes: Any) -> Path:
        key = repr(changes)
        if key not in made:
            root = tmp_path_factory.mktemp("alone")
            inputs = {
                "subset": tiny_model.upstream(root / "subset", tiny_model.rows(10)),
                "split": tiny_model.upstream(root / "split", tiny_model.rows(5, "validation")),
            }
            job = tiny_model.job(root, tiny_model.build(base, **changes), **inputs)
            finetune.run(job)
            made[key] = job.out
        return made[key]

    return out


def assert_done(stage: StageDir) -> None:
    code, out, err = launched.run(stage)
    assert (code, out) == (0, ""), err
    assert "Traceback" not in err
    assert stage.is_done
    assert not (stage.path / "attempts").exists()


def ranks_of(stage: StageDir) -> list[int]:
    """Living processes that work on this stage, without the launcher."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = cmdline.read_bytes().decode(errors="replace").split("\0")
            state = (cmdline.parent / "stat").read_text().rpartition(")")[2].split()[0]
            if "understudy.pipeline.worker" in words and str(stage.path) in words and state != "Z":
                found.append(int(cmdline.parent.name))
    return sorted(found)


def sentences(err: str) -> list[str]:
    """What was said, without the progress that a slow machine shows."""
    return [line for line in err.splitlines() if " s left " not in line]


def wait_for(process: "subprocess.Popen[str]", moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not moment():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def a_checkpoint(stage: StageDir) -> bool:
    return any(stage.path.glob("attempts/*/scratch/checkpoints/*/COMPLETE"))


def steps_of_checkpoints(stage: StageDir) -> list[int]:
    found = stage.path.glob("attempts/*/scratch/checkpoints/*/COMPLETE")
    return sorted(int(path.parent.name.partition("-")[2]) for path in found)


@pytest.mark.parametrize(
    ("kind", "changes"), [("ddp", FULL), ("zero2", FULL), ("zero3", FULL), ("ddp", LORA)]
)
def test_two_processes_train_as_one(
    alone: Callable[..., Path], base: Path, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    stage = launched.prepare(tmp_path, base, accelerate__kind=kind, **changes)
    assert_done(stage)
    assert_equal_within_tolerance(stage.out, alone(**changes))
    # What is shipped is a model like any other.
    answers, _ = tiny_model.infer(tmp_path, base, tiny_model.rows(2, "test"), stage.out)
    assert len(answers) == 4


@pytest.mark.parametrize(("kind", "number"), [("zero3", signal.SIGTERM), ("ddp", signal.SIGUSR1)])
def test_a_signal_costs_no_step_and_changes_no_loss(
    alone: Callable[..., Path], base: Path, tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    stage = launched.prepare(tmp_path, base, accelerate__kind=kind, **LORA)
    process = launched.start(stage)
    wait_for(process, lambda: a_checkpoint(stage))
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (130, ""), err
    at = max(steps_of_checkpoints(stage))
    assert sentences(err) == [f"  finetune: interrupted, a checkpoint is at step {at} of 24"]
    assert not ranks_of(stage)
    assert_done(stage)
    assert_equal_within_tolerance(stage.out, alone(**LORA))


def test_fsdp_trains_and_resumes_as_one(
    alone: Callable[..., Path], base: Path, tmp_path: Path
) -> None:
    on_gloo = Path(__file__).parents[1] / "support" / "fsdp_on_gloo"
    path = f"{on_gloo}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    # Two GPUs by name only: the launch asks no more than that, the ranks find none.
    gpus = {"CUDA_VISIBLE_DEVICES": "0,1", "ACCELERATE_TORCH_DEVICE": "cpu", "PYTHONPATH": path}
    stage = launched.prepare(tmp_path, base, accelerate__kind="fsdp", **LORA)
    process = launched.start(stage, **gpus)
    wait_for(process, lambda: a_checkpoint(stage))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    code, _, err = launched.run(stage, **gpus)
    assert code == 0, err
    assert_equal_within_tolerance(stage.out, alone(**LORA))


def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(
    alone: Callable[..., Path], base: Path, tmp_path: Path
) -> None:
    stage = launched.prepare(tmp_path, base, accelerate__kind="ddp", **LORA)
    process = launched.start(stage)
    wait_for(process, lambda: a_checkpoint(stage))
    victim = ranks_of(stage)[1]
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (4, ""), err
    (sentence,) = sentences(err)
    assert sentence.startswith("understudy: rank ")
    assert f"(process {victim}) was ended by SIGKILL" in sentence
    assert "the last checkpoint is kept" in sentence
    assert not ranks_of(stage)
    assert_done(stage)
    assert_equal_within_tolerance(stage.out, alone(**LORA))


def test_no_rank_outlives_the_launcher_and_ctrl_c_reaches_all(base: Path, tmp_path: Path) -> None:
    stage = launched.prepare(tmp_path, base, accelerate__kind="ddp", **FULL)
    for number in (signal.SIGKILL, signal.SIGINT):
        process = launched.start(stage)
        wait_for(process, lambda: len(ranks_of(stage)) == 2 and any(stage.path.glob("LOCK")))
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        assert sentences(err) == []
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        deadline = time.monotonic() + 60
        while ranks_of(stage):
            assert time.monotonic() < deadline, "a rank outlived its launcher"
            time.sleep(0.05)


def test_a_diverged_training_is_told_once(base: Path, tmp_path: Path) -> None:
    changes = FULL | {"trainer__lr": 1e30, "trainer__schedule": "constant_with_warmup"}
    stage = launched.prepare(tmp_path, base, accelerate__kind="ddp", **changes)
    code, out, err = launched.run(stage)
    assert (code, out) == (4, "")
    (sentence,) = sentences(err)
    assert sentence.startswith("understudy: training diverged: ")


def test_two_nodes_meet_where_the_job_says(
    alone: Callable[..., Path], base: Path, tmp_path: Path
) -> None:
    changes = {"accelerate__kind": "ddp", "accelerate__processes": 1, "accelerate__nodes": 2}
    stage = launched.prepare(tmp_path, base, **changes, **FULL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    nodes = [launched.start(stage, **job, SLURM_NODEID=number) for number in ("0", "1")]
    for node in nodes:
        _, err = node.communicate(timeout=900)
        assert node.returncode == 0, err
    assert_equal_within_tolerance(stage.out, alone(**FULL))


def test_accelerates_own_cpu_option_which_starts_one_process_is_caught(
    base: Path, tmp_path: Path
) -> None:
    stage = launched.prepare(tmp_path, base, accelerate__kind="ddp", **FULL)
    command = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m"]
    done = subprocess.run(
        [sys.executable, *command, "understudy.pipeline.worker", str(stage.path)],
        capture_output=True,
        text=True,
    )
    assert "asks for 2 processes and this is one of 1" in done.stderr
    assert done.returncode != 0
    assert not (stage.path / "attempts").exists()
