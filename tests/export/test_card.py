"""The model card, and the decision that it begins with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support import configs, exports, tiny_model
from support.decisions import DECIDED
from understudy.config import changed
from understudy.export import card
from understudy.export.parity import Report
from understudy.pipeline import chosen


@pytest.fixture
def run_json(tmp_path: Path) -> Path:
    return exports.write_run(tmp_path / "runs", tiny_model.save(tmp_path / "base"))


def test_the_decision_on_another_model_of_the_same_name_is_not_this_ones(run_json: Path) -> None:
    (run_json.parent / "decision.json").write_text(json.dumps(DECIDED))
    assert chosen.choose(run_json).decision[0] == "MIGRATE"
    again = {"holdout": {"round": 0, "stages": {"evaluation.offline": "evaluation/e9"}}}
    run_json.write_text(json.dumps(json.loads(run_json.read_text()) | again))
    found = chosen.choose(run_json)
    why = "it was decided on another model of this name: understudy decide demo"
    assert found.decision == ("UNDECIDED", why)
    assert found.warnings == []


def test_the_card_names_what_it_cannot_spell_out(run_json: Path) -> None:
    found = chosen.choose(run_json)
    gate = found.stage("gate").out / "summary.json"
    summary = json.loads(gate.read_text())
    summary["table"][0]["similarity"] |= {"low": None, "high": None}
    gate.write_text(json.dumps(summary))
    found = replace(found, config=changed(found.config, {"model.stop": []}))
    report = Report(measured={"stops": {"ids": [2, 7], "texts": []}})
    text = card.card(found, configs.export(), report)
    assert "they end at token 2 or token 7. Prompt" in text
    assert " [no interval] |" in text


def test_the_card_sums_up_what_services_cost_in_all_stages(run_json: Path) -> None:
    for number, stage in enumerate(("baseline.offline", "gate")):
        run = json.loads(run_json.read_text())
        path = run_json.parents[2] / (run["stages"] | run["rounds"][0]["stages"])[stage]
        meta = json.loads((path / "meta.json").read_text())
        calls = {"calls": 3, "microusd": 10**6 * (number + 1)}
        (path / "meta.json").write_text(json.dumps(meta | {"calls": calls}))
    found = card.card(chosen.choose(run_json), configs.export(), Report())
    assert "Calls of services: evaluation $1.0000, gate $2.0000." in found


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("{}/base", "me/mine, a local directory, sha256 abc"),
        ("{}/base/weights.gguf", "me/mine, file weights.gguf, sha256 abc"),
        ("pip:one+two", "me/mine, packages one, two, sha256 abc"),
    ],
)
def test_the_card_names_no_place_on_this_machine(
    path: str, origin: str, run_json: Path, tmp_path: Path
) -> None:
    place = path.format(tmp_path)
    run = json.loads(run_json.read_text())
    words = f"understudy run model.path={place} coverage.path='{tmp_path}/my rows.jsonl'"
    run_json.write_text(json.dumps(run | {"command": words, "decision": None}))
    found = chosen.choose(run_json)
    stage = found.stage("finetune").path / "config.json"
    frozen = json.loads(stage.read_text()) | {"hashed": {"files": {"model": "abc"}}}
    stage.write_text(json.dumps(frozen))
    model = {"model.path": place, "model.repo": "me/mine", "model.name": "mine"}
    text = card.card(
        replace(found, config=changed(found.config, model)), configs.export(), Report()
    )
    assert f"Base model: mine ({origin}), fine-tuned" in text
    assert str(tmp_path) not in text
    assert "coverage.path=" in text
