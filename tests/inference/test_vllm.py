"""The engine vLLM: the real worker script in a process of its own, over a stand-in for vLLM."""

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import exports, tiny_model
from support.tiny_model import infer, questions
from understudy.config import Config, changed
from understudy.errors import BadInput, EnvironmentFailed
from understudy.inference import vllm, vllm_worker
from understudy.models import load
from understudy.pipeline.run import Run

STAND_INS = Path(__file__).parents[1] / "support" / "stand_ins"
VLLM = {"inference__engine": "vllm", "inference__python": sys.executable}


@pytest.fixture
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    vllm.check_python.cache_clear()


pytestmark = pytest.mark.usefixtures("_stand_in")


def adapter(root: Path, base: Path, **options: Any) -> Path:
    """The out/ of a finetune stage: an adapter that changes what the model says."""
    usual = {"target_modules": "all-linear"}
    exports.adapter(root / "model", tiny_model.build(base), **usual | options)
    return root


@pytest.mark.slow
def test_greedy_rows_are_those_of_transformers(tmp_path: Path, base: Path) -> None:
    import torch

    config = tiny_model.build(base)
    model, tokenizer = (
        load.base(config.model, torch.float32),
        load.tokenizer(config.model),
    )
    rows = questions(5)
    ids = tokenizer.apply_chat_template(
        rows[0].prompt, add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    said = model.generate(ids, max_new_tokens=4, do_sample=False)[0, -1]
    other_base = tmp_path / "model/base"
    shutil.copytree(base, other_base)
    ends = {"eos_token_id": [tokenizer.eos_token_id, int(said)]}  # so that an answer ends there
    (other_base / "generation_config.json").write_text(json.dumps(ends))
    rows.append(tiny_model.row("long", "colour " * 100, "red", "test"))
    greedy = {"inference__temperature": 0.0, "inference__k": 2}
    other, _ = infer(tmp_path / "transformers", other_base, rows, **greedy)
    mine, notes = infer(tmp_path / "vllm", other_base, rows, **greedy, **VLLM)
    assert mine == other
    assert {answer["finish"] for answer in mine} == {"stop", "too_long"}
    assert notes["engine"] == "vllm 0.33.0+stand.in"


@pytest.mark.slow
def test_an_adapter_is_served_without_merging(tmp_path: Path, base: Path) -> None:
    out, greedy = adapter(tmp_path / "tuned", base), {"inference__temperature": 0.0}
    other, _ = infer(tmp_path / "transformers", base, questions(4), out, **greedy)
    mine, notes = infer(tmp_path / "vllm", base, questions(4), out, **greedy, **VLLM)
    plain, _ = infer(tmp_path / "base", base, questions(4), **greedy)
    assert mine == other
    assert [a["text"] for a in mine] != [a["text"] for a in plain]
    assert notes["adapter"] == "served"
    engine = tiny_model.read(tmp_path / "vllm/scratch/vllm/engine.json")
    assert engine["llm"]["model"] == str(base)
    assert engine["llm"]["max_lora_rank"] == 8


UNSERVABLE: dict[str, dict[str, Any]] = {
    "modules_to_save": {"modules_to_save": ["norm"]},
    "trained token rows": {"trainable_token_indices": [5, 6]},
    "rank": {"r": 513},
}


@pytest.mark.parametrize("name", UNSERVABLE)
def test_an_adapter_with_more_than_lora_matrices_has_to_be_merged(
    tmp_path: Path, base: Path, name: str
) -> None:
    out = adapter(tmp_path, base, **UNSERVABLE[name])
    assert vllm.why_merge(out / "model") is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSERVABLE)
def test_what_vllm_cannot_serve_is_merged_first(tmp_path: Path, base: Path, name: str) -> None:
    out, greedy = adapter(tmp_path, base, **UNSERVABLE[name]), {"inference__temperature": 0.0}
    other, _ = infer(tmp_path / "transformers", base, questions(3), out, **greedy)
    mine, notes = infer(tmp_path / "vllm", base, questions(3), out, **greedy, **VLLM)
    assert mine == other
    assert notes["adapter"].startswith("merged: ")
    served = tiny_model.read(tmp_path / "vllm/scratch/vllm/engine.json")
    assert served["adapter"] is None
    assert served["llm"]["model"] == str(tmp_path / "vllm/scratch/merged")


@pytest.mark.slow
def test_a_whole_finetuned_model_is_served_itself(tmp_path: Path, base: Path) -> None:
    other = tiny_model.save(tmp_path / "tuned/model", "gpt2")
    mine, notes = infer(tmp_path / "vllm", base, questions(3), tmp_path / "tuned", **VLLM)
    engine = tiny_model.read(tmp_path / "vllm/scratch/vllm/engine.json")
    assert engine["llm"]["model"] == str(other)
    assert "adapter" not in notes
    assert len(mine) == 6


@pytest.mark.slow
def test_a_stop_string_cuts_the_text_as_it_does_with_transformers(
    tmp_path: Path, base: Path
) -> None:
    greedy = {"inference__temperature": 0.0, "inference__k": 1}
    free, _ = infer(tmp_path / "free", base, questions(9), **greedy)
    text = max((answer["text"] for answer in free), key=len)
    stops = {"model__stop": [tiny_model.STOP, text[3:5]]}
    other, _ = infer(tmp_path / "transformers", base, questions(9), **greedy, **stops)
    mine, _ = infer(tmp_path / "vllm", base, questions(9), **greedy, **stops, **VLLM)
    assert mine == other
    assert other != free


def test_every_answer_has_a_seed_of_its_own() -> None:
    keys = [(seed, name, k) for seed in (0, 1) for name in "ab" for k in range(50)]
    seeds = {vllm.seed_of(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert max(seeds) < 2**32


@pytest.mark.slow
def test_sampled_answers_depend_on_the_seed_alone(tmp_path: Path, base: Path) -> None:
    first, _ = infer(tmp_path / "0", base, questions(4), **VLLM)
    again, _ = infer(tmp_path / "again", base, questions(4), **VLLM, inference__batch_size=3)
    other, _ = infer(tmp_path / "1", base, questions(4), **VLLM, seed=1)
    assert first == again
    assert [a["text"] for a in first] != [a["text"] for a in other]
    assert first[0]["text"] != first[1]["text"]


@pytest.mark.slow
def test_a_killed_engine_loses_one_batch_and_the_same_command_goes_on(
    tmp_path: Path, base: Path
) -> None:
    whole, _ = infer(tmp_path / "whole", base, questions(8), **VLLM)
    fault = base.parent / "fault.json"
    fault.write_text('{"batches": 2}')
    try:
        with pytest.raises(EnvironmentFailed, match=r"ended with exit code -9"):
            infer(tmp_path / "torn", base, questions(8), **VLLM)
    finally:
        fault.unlink()
    kept = tiny_model.read(tmp_path / "torn/out/rows.jsonl")
    assert len(kept) == 8  # two batches of four
    mine, _ = infer(tmp_path / "torn", base, questions(8), **VLLM)
    asked = tiny_model.read(tmp_path / "torn/scratch/vllm/requests.jsonl")
    assert mine == whole
    assert not {(r["id"], r["k"]) for r in asked} & {(r["prompt_id"], r["k"]) for r in kept}


def test_out_of_memory_is_one_sentence_with_what_to_change(tmp_path: Path, base: Path) -> None:
    fault = base.parent / "fault.json"
    fault.write_text('{"memory": true}')
    try:
        with pytest.raises(EnvironmentFailed, match=r"vLLM ran out of memory .* lower model\.cont"):
            infer(tmp_path, base, questions(2), **VLLM)
    finally:
        fault.unlink()


def test_without_a_python_nothing_begins(base: Path) -> None:
    with pytest.raises(BadInput, match=r"inference\.engine=vllm needs inference\.python=PATH"):
        tiny_model.build(base, inference__engine="vllm")


def test_a_python_without_vllm_is_found_before_the_first_stage(
    tmp_path: Path, composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    config = composed("inference=vllm", f"inference.python={python}")
    with pytest.raises(BadInput, match=r"has no vllm; make a virtual environment.*pip install"):
        Run(config, ["understudy"])
    config = changed(config, {"inference.python": str(tmp_path / "nowhere")})
    with pytest.raises(BadInput, match=r"inference\.python=.*nowhere cannot be run: No such file"):
        Run(config, ["understudy"])


def test_the_worker_script_needs_nothing_of_ours(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    command = [tmp_path / "venv/bin/python", "-P", vllm_worker.__file__]
    done = subprocess.run(command, capture_output=True, text=True, env={})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install vllm" in done.stderr


def test_the_engine_is_science_and_its_place_is_not(composed: Callable[..., Config]) -> None:
    def fingerprint(*overrides: str) -> str:
        from understudy.pipeline.flow import Flow

        return Flow(composed(*overrides)).round(0)["inference"].fingerprint

    size = "inference.batch_size=64"
    here = fingerprint("inference=vllm", "inference.python=/a/python", size)
    assert here == fingerprint("inference=vllm", "inference.python=/b/python", size)
    assert here != fingerprint()
    assert fingerprint() == fingerprint("inference.engine=transformers")
