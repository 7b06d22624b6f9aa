"""A launch on several devices: which files, which environment, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support import configs, tiny_model
from understudy import config
from understudy.config import changed
from understudy.config.accelerate import AccelerateConfig, split_batch
from understudy.errors import BadInput, EnvironmentFailed
from understudy.training import accelerate

ALL = ["ddp", "fsdp", "zero1", "zero2", "zero3", "zero3_offload"]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def prepare(path: Path, kind: str, **changes: Any) -> dict[str, str]:
    return accelerate.prepare(path, tiny_model.build(None, accelerate__kind=kind, **changes))


@pytest.mark.parametrize(
    ("batch", "per_device", "is_packed", "processes", "expected"),
    [
        (16, None, False, 1, (16, 1)),
        (16, None, False, 4, (4, 1)),
        (16, 2, False, 4, (2, 2)),
        (16, None, True, 2, (1, 8)),
        (12, 4, False, 1, (4, 3)),
    ],
)
def test_a_batch_is_divided_into_processes_and_steps(
    batch: int, per_device: int | None, is_packed: bool, processes: int, expected: tuple[int, int]
) -> None:
    found = split_batch(batch, per_device, is_packed, processes)
    assert found == expected
    assert found[0] * found[1] * processes == batch


def test_a_batch_that_does_not_come_out_even_names_the_valid_choices() -> None:
    with pytest.raises(BadInput, match=r"16 cannot be divided among 3 .* one of 1, 2, 4, 8, 16$"):
        split_batch(16, None, False, 3)
    with pytest.raises(BadInput, match=r"per_device_batch=5 does not divide .* one of 1, 2, 4, 8$"):
        split_batch(16, 5, False, 2)


def test_an_uneven_batch_is_refused_when_the_config_is_composed() -> None:
    with pytest.raises(BadInput, match=r"batch_size=4 cannot be divided among 6 processes"):
        tiny_model.build(None, accelerate__kind="ddp", accelerate__processes=3, accelerate__nodes=2)
    with pytest.raises(BadInput, match=r"per_device_batch=3 does not divide"):
        tiny_model.build(None, trainer__per_device_batch=3)


@pytest.mark.parametrize("kind", ALL)
def test_the_files_of_a_launch_say_what_accelerate_reads(tmp_path: Path, kind: str) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    asked = configs.accelerate(kind=kind, processes=2, nodes=2, port=12345)  # type: ignore[arg-type]
    for name, content in accelerate.files(tmp_path, asked, 4).items():
        (tmp_path / name).write_text(json.dumps(content))
    node = {"MASTER_ADDR": "n1", "MASTER_PORT": "1", "SLURM_NODEID": "1"}
    given = accelerate.arguments(tmp_path, asked, node)
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert (args.num_processes, args.num_machines, args.machine_rank) == (4, 2, 1)
    assert (args.main_process_ip, args.main_process_port) == ("n1", 12345)
    assert (args.module, args.training_script) == (True, "understudy.pipeline.worker")
    assert args.training_script_args == [str(tmp_path)]
    assert args.use_deepspeed == kind.startswith("zero")
    assert bool(args.use_fsdp) == (kind == "fsdp")
    assert args.multi_gpu == (kind == "ddp")
    assert not args.cpu  # that starts one process, in silence
    if kind.startswith("zero"):
        zero = json.loads(Path(args.deepspeed_config_file).read_text())["zero_optimization"]
        assert f"zero{zero['stage']}" == kind.partition("_")[0]
        assert ("offload_optimizer" in zero) == (kind == "zero3_offload")


def test_several_nodes_need_to_know_one_another(tmp_path: Path) -> None:
    asked = configs.accelerate(kind="ddp", processes=2, nodes=2)
    with pytest.raises(BadInput, match="needs MASTER_PORT and SLURM_NODEID in the environment"):
        accelerate.arguments(tmp_path, asked, {"MASTER_ADDR": "n1"})


def test_processes_default_to_the_visible_gpus_and_to_two_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert accelerate.processes(configs.accelerate(kind="ddp")) == 2
    assert accelerate.processes(configs.accelerate(kind="single")) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert accelerate.processes(configs.accelerate(kind="ddp", nodes=2)) == 6
    assert accelerate.processes(configs.accelerate(kind="ddp", processes=2)) == 2


def test_what_the_machine_cannot_do_is_refused_at_second_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="accelerate=fsdp needs GPUs; on a CPU choose ddp"):
        prepare(tmp_path, "fsdp")
    with pytest.raises(BadInput, match="accelerate=ddp needs two processes or more"):
        prepare(tmp_path, "ddp", accelerate__processes=1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(EnvironmentFailed, match=r"needs a C\+\+ compiler and ninja here"):
            prepare(tmp_path, "zero2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(BadInput, match=r"processes=4 but only 2 GPUs are visible; choose 1 to 2"):
        prepare(tmp_path, "ddp", accelerate__processes=4)


def test_without_fine_tuning_nothing_is_asked_of_the_machine() -> None:
    accelerate.check(tiny_model.build(None, trainer__kind="none", accelerate__kind="fsdp"))


def test_how_it_is_spread_is_in_no_fingerprint() -> None:
    from understudy.pipeline import stages

    one, many = (tiny_model.build(None, accelerate__kind=kind) for kind in ("single", "zero3"))
    assert isinstance(one, config.Config)
    assert stages.science(one) == stages.science(many)


@pytest.mark.parametrize(
    ("spread", "gpus", "words"),
    [
        (configs.accelerate(kind="ddp"), 1, "needs two processes"),
        (
            configs.accelerate(kind="zero2", processes=8),
            2,
            "accelerate.processes=8 but cluster.gpu.gpus=2",
        ),
        (configs.accelerate(kind="fsdp", processes=2), 0, "accelerate=fsdp needs GPUs"),
    ],
)
def test_what_the_nodes_cannot_do_is_refused_before_anything_is_queued(
    spread: AccelerateConfig, gpus: int, words: str
) -> None:
    made = changed(
        tiny_model.build("package:tiny"), {"accelerate": spread, "cluster.gpu.gpus": gpus}
    )
    with pytest.raises(BadInput, match=words):
        accelerate.check_allocation(made)
