"""`understudy export`: what is written, what a refusal leaves, and what the card says."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import decisions, exports, hubs, tiny_model
from support.exports import export, names
from understudy.cli.main import main
from understudy.inference import PromptSample, Sampling, decode
from understudy.models import load
from understudy.pipeline import chosen
from understudy.records import Answer, Coverage, read_rows
from understudy.serve.model import of_directory

ALONE = "export.parity.server=none"


@pytest.mark.slow
def test_a_merged_export_is_a_model_by_itself(
    run_json: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert export(run_json, ALONE) == 0
    out = run_json.parent / "export-merged"
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "not checked: server: export.parity.server=none",
        f"{out}: merged of demo; as judged in template, token_ids, stops, stored, weights",
    ]
    assert said.err.splitlines() == [
        "UNDECIDED: nobody looked at the holdout: understudy decide demo; the card says so"
    ]
    assert names(out) >= {"model.safetensors", "config.json", "README.md", "parity.json"}
    assert names(run_json.parent) == {"run.json", "export-merged", "export-parity.json"}
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert tokenizer.chat_template
    assert json.loads((out / "parity.json").read_text())["outcome"] == "parity"


@pytest.mark.slow
def test_settings_may_stand_anywhere_and_misspelt_ones_are_told(
    run_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "half"
    assert export(run_json, "--to", str(to), ALONE, "--force", "export.dtype=float16") == 0
    assert json.loads((to / "config.json").read_text())["dtype"] == "float16"
    capsys.readouterr()
    for word, sentence in (
        ("export.wat=gguf", "export.wat is not a config key or group; did you mean export.what?"),
        ("export.what=zip", "export.what=zip is not valid: it must be 'merged', 'adapter' or"),
        ("trainer.lr=1", "trainer.lr=1 is not a setting of an export; those begin with export."),
        ("export.what=gguf", "export.what=gguf needs export.llama_cpp=DIR; to get one: git clone"),
        ("export.llama_cpp=/no", ""),
    ):
        words = [word] if sentence else [word, "export.what=gguf"]
        assert export(run_json, *words) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(f"understudy: {sentence or 'export.llama_cpp=/no has no conv'}")


@pytest.mark.slow
def test_an_adapter_export_holds_the_adapter_only(run_json: Path) -> None:
    assert export(run_json, "export.what=adapter") == 0
    out = run_json.parent / "export-adapter"
    assert "model.safetensors" not in names(out)
    assert names(out) >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"}
    text = (out / "README.md").read_text()
    assert 'library_name: "peft"' in text
    assert (
        "| server | not checked: an adapter is served by whoever loads it onto its base |" in text
    )


def test_a_model_without_an_adapter_has_none_to_export(
    run_json: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_json.parents[2] / "finetune/f0/out/model/adapter_config.json").unlink()
    assert export(run_json, "export.what=adapter") == 2
    assert "trained no adapter; choose export.what=merged" in capsys.readouterr().err


@pytest.mark.slow
def test_a_refused_export_leaves_a_report_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_model.save(tmp_path / "base", tied=False)
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] *= 1e5  # beyond what float16 holds, and harmless in float32
    tensors["lm_head.weight"] /= 1e5
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    run_json = exports.write_run(tmp_path / "runs", base)
    report, before = run_json.parent / "export-parity.json", names(run_json.parent)
    assert export(run_json, ALONE, "export.dtype=float16") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "understudy: not exported: weights differ from those judged: some values are beyond "
        "6.55e+04, where float16 ends: KL nan a token"
    )
    assert said.endswith(f"(measurements: {report})")
    assert names(run_json.parent) == before | {"export-parity.json"}
    written = json.loads(report.read_text())
    assert written["outcome"] == "mismatch"
    assert written["cause"] in said
    assert written["measured"]["weights"]["kl"] is None
    assert export(run_json, ALONE) == 0


@pytest.mark.slow
def test_an_earlier_export_is_replaced_by_force_and_nothing_else_is(
    run_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "mine"
    to.mkdir()
    (to / "notes.txt").write_text("keep")
    for words in ((), ("--force",)):
        assert export(run_json, "--to", str(to), ALONE, *words) == 2
        assert "mine holds no earlier export; give another" in capsys.readouterr().err
    assert names(to) == {"notes.txt"}
    (to / "parity.json").write_text("{}")
    assert export(run_json, "--to", str(to), ALONE) == 2
    assert "is not empty; give another directory, or --force" in capsys.readouterr().err
    assert export(run_json, "--to", str(to), ALONE, "--force") == 0
    assert "notes.txt" not in names(to)
    assert names(tmp_path) == {"mine", "runs"}


@pytest.mark.slow
def test_the_card_says_what_was_measured_and_what_was_not(run_json: Path) -> None:
    (run_json.parent / "decision.json").write_text(json.dumps(decisions.DECIDED))
    assert export(run_json, ALONE) == 0
    text = (run_json.parent / "export-merged/README.md").read_text()
    for part in (
        'license: "apache-2.0"\n',
        "# test for closed_qa (merged)\n",
        "**MIGRATE**: local - service is +1.\n",
        "fine-tuned (lora, learning rate 0.003, batch of 4), with seed 0.",
        "`understudy run experiment=demo`",
        "| the coverage data | see the licences |",
        "| this model | offline | similarity | 41.2 [33.5, 48.8] | 3 |  | 1 |",
        "| this model | offline | precision | – | 3 |  | 1 |",
        "| service (offline) | offline | similarity |",
        "Gate (paper): fail. precision 52.5 is below 70",
        "| 3 (9%) | a file | not known |",
        "| 1 | not given |",
        "Held out: 6 test rows; 2 training rows repeat one.",
        "Calls of services: none was paid for.",
        "Training: 12 s",
        "| weights | kl ",
        "| server | not checked: export.parity.server=none |",
        "they end at '<|im_end|>'. Prompt and answer fit into 128 tokens.",
        "- family\n",
    ):
        assert part in text, part
    assert "rehearsal" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        ({"decision": None}, "UNDECIDED", "the run is not finished; go on with understudy run"),
        (
            {"decision": {"passed": False, "round": None, "reason": "All is short."}},
            *("NOT YET", "no round passed on the test split. All is short."),
        ),
    ],
)
def test_a_model_without_a_yes_is_exported_with_a_clear_sentence(
    changes: dict[str, Any], word: str, reason: str, run_json: Path
) -> None:
    run_json.write_text(
        json.dumps(json.loads(run_json.read_text()) | changes | {"rehearsal": True})
    )
    found = chosen.choose(run_json)
    assert found.decision[0] == word
    assert found.decision[1].startswith(reason)
    assert export(run_json, ALONE) == 0
    text = (run_json.parent / "export-merged/README.md").read_text()
    assert f"**{word}**: {reason}" in text
    assert "**A rehearsal: stand-ins taught and judged" in text


def test_the_round_that_passed_is_exported_and_others_on_demand(run_json: Path) -> None:
    run = json.loads(run_json.read_text())
    later = {**run["rounds"][0], "round": 1, "stages": {"finetune": "finetune/nowhere"}}
    run_json.write_text(json.dumps(run | {"rounds": [*run["rounds"], later]}))
    assert chosen.choose(run_json).step.round == 0
    from understudy.errors import BadInput

    with pytest.raises(BadInput, match=r"demo has no model of round 1; it has one of 0"):
        chosen.choose(run_json, 1)


@pytest.fixture
def hub() -> Iterator[hubs.Hub]:
    with hubs.Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.slow
def test_a_push_makes_a_private_model_of_all_files(
    run_json: Path, hub: hubs.Hub, tmp_path: Path
) -> None:
    to = tmp_path / "out"
    command = ["export", "demo", "--root", str(run_json.parents[2]), "--to", str(to), ALONE]
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hubs.TOKEN, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "understudy", *command, "--push", "me/model", "export.what=adapter"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (made,) = hub.made
    assert (made["name"], made["organization"]) == ("model", "me")
    assert made["visibility"] == "private"
    assert set(hub.files) == names(to)
    assert hub.files["README.md"] == (to / "README.md").read_text()


@pytest.mark.slow
def test_a_run_is_exported_once_its_server_answers_as_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    small = ["coverage.rows=40", "coverage.split.test=6", "coverage.split.validation=4"]
    small += ["data_size=0", "trainer.kind=lora", "trainer.max_steps=6", "evaluation.m=1"]
    small += ["inference.shots=2", "inference.temperature=0"]
    assert main(["run", *small, f"paths.root={root}", "run.name=small"]) == 0
    run_json = root / "rehearsal/run/small/run.json"
    assert main(["export", "small", "--root", str(root)]) == 0
    assert "not checked" not in capsys.readouterr().out
    report = json.loads((run_json.parent / "export-merged/parity.json").read_text())
    assert report["not_measured"] == {}
    assert report["measured"]["server"]["equal_answers"] == 1
    assert report["measured"]["server"]["kl_of_20_likeliest"] < 1e-9
    assert not (run_json.parent / "export-merged/server.log").exists()
    assert answered(run_json) == {
        (row.prompt_id, row.text)
        for path in root.glob("rehearsal/inference/*/out/rows.jsonl")
        for row in read_rows(path, Answer)
    }


def answered(run_json: Path) -> set[tuple[str, str]]:
    """What the exported model says to the plain test prompts, examples before them by itself."""
    served = of_directory(run_json.parent / "export-merged")
    loaded, samples = served.load(torch.float32), list[PromptSample]()
    for row in read_rows(chosen.choose(run_json).split, Coverage):
        if row.split == "test" and served.first is not None:
            prompt = served.first.before(row.prompt, load.counter(served.tokenizer))
            assert len(prompt) == 5
            ids = load.chat_ids(served.tokenizer, prompt, row.id, add_generation_prompt=True)
            samples.append(PromptSample(row.id, row.group_id, tuple(ids), (0,)))
    sampling = Sampling(0, 0.0, 256, served.stop_ids, served.stop_texts)
    made = decode.generate(loaded, served.tokenizer, samples, sampling)
    return {(one.prompt_id, got.text) for one, got in zip(samples, made, strict=True)}
