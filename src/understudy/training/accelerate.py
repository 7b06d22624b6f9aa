"""Fine-tuning on several devices: what `accelerate launch` is given, what is refused at once."""

import fcntl
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from understudy.config import Config
from understudy.config.accelerate import AccelerateConfig, split_batch
from understudy.errors import BadInput, EnvironmentFailed
from understudy.models import ranks
from understudy.store.artifacts import write_atomically

FILE = "accelerate.json"
_OFFLOAD = {"device": "cpu", "pin_memory": False}  # pinned memory is a GPU's, and cannot be swapped
_SHARDS_WEIGHTS = ("fsdp", "zero3", "zero3_offload")
_ZERO: dict[str, dict[str, Any]] = {
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    "zero3": {"stage": 3},
    "zero3_offload": {"stage": 3, "offload_optimizer": _OFFLOAD, "offload_param": _OFFLOAD},
}

_LIBRARIES = {"ShareMemCommBuilder": "deepspeed_shm_comm", "CPUAdamBuilder": "cpu_adam"}


def prepare(stage_dir: Path, made: Config) -> dict[str, str]:
    """Write accelerate.json (and deepspeed.json) for a launch; returns what the environment adds.

    Raises BadInput or EnvironmentFailed when this machine cannot do what the config asks for.
    """
    check(made)
    accelerate, env = made.accelerate, dict[str, str]()
    if not visible_gpus(os.environ):
        # with the second, Accelerate would drop DeepSpeed in silence and train as ddp
        is_zero = accelerate.uses_deepspeed
        env |= {"DS_ACCELERATOR": "cpu"} if is_zero else {"ACCELERATE_USE_CPU": "true"}
    env[ranks.SHARDED] = str(accelerate.kind in _SHARDS_WEIGHTS).lower()
    env["PATH"] = _path()
    if "TORCH_EXTENSIONS_DIR" not in os.environ:
        root = Path(made.paths.root).expanduser().absolute()
        env["TORCH_EXTENSIONS_DIR"] = str(root / "torch_extensions")
    env["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # its warnings are about host names
    for file, content in files(stage_dir, accelerate, processes(accelerate)).items():
        write_atomically(stage_dir / file, json.dumps(content, indent=1))
    return env


def _path() -> str:
    """PATH, and before it the directory of this Python, where pip puts ninja."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def visible_gpus(env: Mapping[str, str]) -> list[str]:
    """The names of the NVIDIA GPUs that a process with this environment sees; no torch needed."""
    if (named := env.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name.strip() not in ("", "-1")]
    found = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
    return sorted((match[1] for match in found if match), key=int)


def processes(accelerate: AccelerateConfig) -> int:
    """All processes of one fine-tuning started here."""
    if not accelerate.is_distributed:
        return 1
    per_node = accelerate.processes or len(visible_gpus(os.environ)) or 2
    return per_node * accelerate.nodes


def check(made: Config) -> None:
    """Refuse at second 0 a launch that this machine cannot do."""
    accelerate, recipe = made.accelerate, made.trainer
    if recipe.kind == "none" or not accelerate.is_distributed:
        return
    choice = f"accelerate={accelerate.kind}"
    total, gpus = processes(accelerate), len(visible_gpus(os.environ))
    if total < 2 and not accelerate.uses_deepspeed:
        raise BadInput(f"{choice} needs two processes or more; choose accelerate=single")
    if gpus and (per_node := total // accelerate.nodes) > gpus:
        raise BadInput(
            f"accelerate.processes={per_node} but only {gpus} GPUs are visible; choose 1 to {gpus}"
        )
    if accelerate.kind == "fsdp" and not gpus:
        raise BadInput(f"{choice} needs GPUs; on a CPU choose ddp, zero1, zero2 or zero3")
    split_batch(recipe.batch_size, recipe.per_device_batch, recipe.packing, total)
    if accelerate.uses_deepspeed and importlib.util.find_spec("deepspeed") is None:
        raise EnvironmentFailed(f"{choice} needs DeepSpeed: pip install 'understudy[deepspeed]'")
    # DeepSpeed compiles what it needs on first use; without a compiler it cannot even begin.
    tools = [shutil.which(tool, path=_path()) for tool in ("c++", "ninja")]
    if builders(accelerate) and not all(tools):
        raise EnvironmentFailed(
            f"{choice} needs a C++ compiler and ninja here; install g++ and ninja, or choose ddp"
        )


def check_allocation(made: Config) -> None:
    """Refuse at second 0 what the nodes of `cluster.gpu` cannot do; raises BadInput."""
    spread, gpus = made.accelerate, made.cluster.gpu.gpus
    if made.trainer.kind == "none" or not spread.is_distributed:
        return
    per_node = spread.processes or gpus or 2
    if gpus and per_node > gpus:
        raise BadInput(
            f"accelerate.processes={per_node} but cluster.gpu.gpus={gpus}; choose 1 to {gpus}"
        )
    if per_node * spread.nodes < 2 and not spread.uses_deepspeed:
        raise BadInput(
            f"accelerate={spread.kind} needs two processes, and cluster.gpu has one node with "
            f"{gpus} GPU; raise cluster.gpu.gpus or accelerate.nodes, or choose accelerate=single"
        )
    if spread.kind == "fsdp" and not gpus:
        raise BadInput("accelerate=fsdp needs GPUs; raise cluster.gpu.gpus, or choose ddp")


def builders(accelerate: AccelerateConfig) -> list[str]:
    """What DeepSpeed compiles for this: communication on a CPU, an optimizer for the host."""
    needed = []
    if accelerate.uses_deepspeed and not visible_gpus(os.environ):
        needed.append("ShareMemCommBuilder")
    if accelerate.kind == "zero3_offload":
        needed.append("CPUAdamBuilder")
    return needed


def files(stage_dir: Path, accelerate: AccelerateConfig, total: int) -> dict[str, Any]:
    """Name → content of Accelerate's config file and, for the zero kinds, DeepSpeed's."""
    made: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # on a CPU, too: its MULTI_CPU is one process, or MPI
        "num_processes": total,
        "num_machines": accelerate.nodes,
        "rdzv_backend": "static",
        "same_network": True,
    }
    if accelerate.kind == "fsdp":
        made |= {"distributed_type": "FSDP", "fsdp_config": _FSDP}
    if not accelerate.uses_deepspeed:
        return {FILE: made}
    made |= {
        "distributed_type": "DEEPSPEED",
        "deepspeed_config": {
            "deepspeed_config_file": str((stage_dir / "deepspeed.json").absolute()),
            "deepspeed_multinode_launcher": "standard",
            "zero3_init_flag": False,
        },
    }
    return {FILE: made, "deepspeed.json": _deepspeed(accelerate.kind)}


_FSDP = {
    "fsdp_version": 2,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_reshard_after_forward": True,
    "fsdp_offload_params": False,
    "fsdp_state_dict_type": "FULL_STATE_DICT",  # so that a checkpoint is a model like any other
    "fsdp_cpu_ram_efficient_loading": False,
}


def _deepspeed(kind: str) -> dict[str, Any]:
    """What is "auto" the trainer fills in from its own arguments."""
    return {
        "zero_optimization": {
            **_ZERO[kind],
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_allow_untested_optimizer": True,
    }


def arguments(stage_dir: Path, accelerate: AccelerateConfig, env: Mapping[str, str]) -> list[str]:
    """What `accelerate launch` is given; on several nodes `env` says which one this is.

    MASTER_ADDR and MASTER_PORT are the same on all nodes, SLURM_NODEID counts them.
    """
    port = str(accelerate.port or env.get("MASTER_PORT") or 0)
    made = ["--config_file", str(stage_dir / FILE), "--main_process_port", port]
    if accelerate.nodes > 1:
        missing = [
            name for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_NODEID") if name not in env
        ]
        if missing:
            raise BadInput(
                f"accelerate.nodes={accelerate.nodes} needs {' and '.join(missing)} in the "
                "environment of each node; start it with cluster=slurm, or set accelerate.nodes=1"
            )
        made += ["--machine_rank", env["SLURM_NODEID"], "--main_process_ip", env["MASTER_ADDR"]]
    return [*made, "-m", "understudy.pipeline.worker", str(stage_dir)]


def launch(arguments: Sequence[str], builders: Sequence[str]) -> tuple[int, str]:
    """Do what `accelerate launch` does with these arguments, in this process, which it becomes.

    `builders` name the extensions of DeepSpeed that the ranks will need. Returns the exit code
    and, where no rank can have said it, why. Ctrl-C, SIGTERM and SIGUSR1 go to the ranks, which
    know what to do; the launcher goes on until they have ended.
    """
    ranks.end_like_ctrl_c()  # while there are no ranks
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGHUP,SIGQUIT"  # torchrun's; the others are ours
    from accelerate.commands import launch as accelerate_launch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = accelerate_launch.launch_command_parser().parse_args(list(arguments))
    if builders:
        compile_extensions(builders)
    logging.disable(logging.CRITICAL)  # torchrun's tracebacks of the ranks' exit codes
    # The ranks inherit the block, so that nothing reaches them before they can take it.
    signal.pthread_sigmask(signal.SIG_BLOCK, ranks.SIGNALS)
    threading.Thread(target=_pass_on, daemon=True).start()
    try:
        accelerate_launch.launch_command(parsed)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode, ""
        if -failure.exitcode in ranks.SIGNALS:  # it was told to end, while it ended anyway
            return 130, ""
        return 4, (
            f"rank {number} (process {failure.pid}) was ended by {failure.signal_name()}, which "
            "the kernel also does when memory runs out (then lower trainer.per_device_batch); "
            "the last checkpoint is kept, and the same command goes on from it"
        )
    return 0, ""


def _pass_on() -> None:
    """Send what the launcher gets to its ranks; without any, before or after them, just end."""
    launcher = os.getpid()
    while True:
        number = signal.sigwait(ranks.SIGNALS)
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        for one in children:
            with suppress(ProcessLookupError):
                os.kill(int(one), number)
        if not children:
            os._exit(130)


def compile_extensions(builders: Sequence[str]) -> None:
    """Build these of DeepSpeed's extensions into TORCH_EXTENSIONS_DIR, unless they are there.

    PyTorch marks a build by a file `lock`; a build that is killed leaves it, and from then on
    everybody waits for it in silence. Here one process builds at a time, so a mark that it finds
    is a dead one's. Raises EnvironmentFailed if the compiler fails.
    """
    place = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".understudy").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of it when we die
        for mark in place.glob("*/lock"):
            mark.unlink(missing_ok=True)
        for builder in builders:
            library = _LIBRARIES[builder]
            if not (place / library / f"{library}.so").is_file():
                print(f"  compiling {library}, once, for a minute or two", file=sys.stderr)
            _build(builder)


def _build(builder: str) -> None:
    from deepspeed.accelerator import get_accelerator

    try:
        get_accelerator().create_op_builder(builder).load(verbose=False)
    except (RuntimeError, ImportError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise EnvironmentFailed(
            f"DeepSpeed's {_LIBRARIES[builder]} cannot be compiled here ({first}); "
            "choose accelerate=ddp or fsdp"
        ) from error
