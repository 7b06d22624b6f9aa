"""The intervals of a plan hold what stages really take, of models of three sizes."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from support.plans import Make, items, planned
from understudy import locations, plan
from understudy.config import Config
from understudy.pipeline import run
from understudy.pipeline.stages import Stage
from understudy.pipeline.start import Workers
from understudy.plan import PlannedStage

# Times, so they want the machine alone: `make soak` runs them.
pytestmark = pytest.mark.soak
SMALL = (
    *("coverage.rows=40", "coverage.split.test=8", "coverage.split.validation=4", "data_size=0"),
    *("trainer.patience=null", "inference.k=4", "inference.max_new_tokens=16"),
)


def model(path: Path, width: int, layers: int) -> Path:
    """A random Llama with the tokenizer of model=tiny."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(locations.model("package:tiny"), path)
    values = json.loads((path / "config.json").read_text())
    values |= {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers}
    values |= {"head_dim": width // 4, "dtype": "float32"}
    LlamaForCausalLM(LlamaConfig(**values)).save_pretrained(path)
    return path


def truth(config: Config, stage: Stage) -> tuple[float, float]:
    """Seconds of its worker by meta.json, and by the clock, of a stage that is run now."""
    for task in run.Run(config, ["understudy", "run"]).steps():
        began = time.monotonic()
        Workers().run(task.directory.path)
        clock = time.monotonic() - began
        if task.directory.path.name == stage.fingerprint:
            return task.directory.read("meta.json")["stage_seconds"], clock
    raise AssertionError(f"{stage.path} was finished before")


def check(item: PlannedStage, config: Config, basis: str) -> None:
    """That the interval of a planned stage holds what it takes, and is none that holds anything."""
    own, clock = truth(config, item.stage)
    said = (
        f"{item.stage.kind} by {item.basis}: {item.seconds}; took {own}, {clock:.1f} by the clock"
    )
    print(said)
    assert item.basis == basis, said
    assert item.seconds.low <= own <= item.seconds.high, said
    assert own <= clock <= item.seconds.high * 1.1 + 3, said  # starting Python
    narrow = (
        5 * max(1.0, 2 * os.getloadavg()[1] / (os.cpu_count() or 1)) ** 2
    )  # of an idle machine: 5
    assert item.stage.kind != "finetune" or item.seconds.high <= narrow * item.seconds.low, said


@pytest.mark.parametrize(("width", "layers"), [(64, 2), (192, 4), (384, 8)])
def test_a_probe_and_then_what_is_finished_hold_the_truth(
    width: int, layers: int, composed: Make, tmp_path: Path
) -> None:
    path = model(tmp_path / "model", width, layers)
    given = (*SMALL, f"model.path={path}", "model.name=sized", "baseline=none")
    config = composed(*given, "trainer.max_steps=40", "trainer.evaluations=4")
    probed = plan.make([config], "run/x", is_probed=True)
    assert not [notice for notice in probed.notices if "probe" in notice]
    for kind in ("finetune", "inference"):
        check(*items(probed, kind), config, "probe")
    longer = composed(*given, "trainer.max_steps=80", "trainer.evaluations=4")
    later = planned(longer)
    for kind in ("finetune", "inference"):
        check(*items(later, kind), longer, "finished stages")
