"""A run whose model is served, and the server as a process of its own."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import records, tiny_model
from understudy.models import load
from understudy.store.artifacts import write_atomically

STAGES = {"finetune": "finetune/f1", "inference": "inference/i1"}


NO_END = {"2": -100}  # the tiny model's stop token


# What a process does when nothing but loopback can be reached, and whether it tried.
_WALLED_IN = """
import sys

def wall(event, args):
    host = None
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    if host not in (None, "", "127.0.0.1", "localhost", "::1"):
        print(f"REACHED OUT to {host}", file=sys.stderr, flush=True)
        raise OSError(101, "Network is unreachable")

sys.addaudithook(wall)
from understudy.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def a_run(root: Path, **model: Any) -> Path:
    """A run whose second round passed: an adapter; its base is the shipped model unless given."""
    import peft
    import torch

    load.quiet()
    usual = {"path": "package:tiny", "context": 96, "stop": ["<|im_end|>"], **model}
    changes = {f"model__{name}": value for name, value in usual.items()}
    config = tiny_model.build(None, **changes, inference__temperature=0.0)
    base = tiny_model.build("package:tiny").model
    torch.manual_seed(1)
    lora = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(load.base(base, torch.float32), lora)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    stage = root / "finetune" / "f1"
    tuned.save_pretrained(stage / "out" / "model")
    load.tokenizer(base).save_pretrained(stage / "out" / "model")
    write_atomically(stage / "config.json", json.dumps({"config": dataclasses.asdict(config)}))
    write_atomically(stage / "DONE", "")
    run = records.record(
        name="mine",
        config=dataclasses.asdict(config),
        rounds=[{"round": 1, "data_size": 50, "stages": STAGES, "decision": "pass"}],
        decision={"passed": True, "round": 1, "reason": "as good"},
    )
    path = root / "run" / "mine" / "run.json"
    path.parent.mkdir(parents=True)
    write_atomically(path, json.dumps(run))
    return path


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server behind the wall, and its URL."""
    child = subprocess.Popen(
        [sys.executable, "-c", _WALLED_IN, "serve", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        env={**os.environ, "HF_HUB_OFFLINE": "0", **environment},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        told = child.stdout.readline()
        assert "http://" in told, child.stderr.read()
        yield child, "http://" + told.partition("http://")[2].partition("/v1")[0]
    finally:
        child.kill()
        child.communicate()
