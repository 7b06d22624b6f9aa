"""The labelling page in a browser, labels from files, and what `decide` makes of them."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import chromium, evaluations, holdouts
from support.evaluations import write
from understudy.cli.main import main
from understudy.config import as_dict
from understudy.errors import BadInput
from understudy.evaluation.labels import read_labels
from understudy.labelling import importing
from understudy.labelling.draw import Draw, DrawnItem, Shown, probabilities
from understudy.labelling.page import page
from understudy.records import Answer

HOSTILE = "</script><script>document.title='owned'</script><!-- \u2028 <img src=x onerror=alert(1)>"
DRAW = Draw(
    {"tiny": "inference/l", "gpt": "baseline/s"}, "1-5", "How good?",
    [
        DrawnItem(f"i{n}", f"p{n}", 2.0, *((("tiny", 0), ("gpt", 0))[:: 1 if n % 2 else -1]))
        for n in range(20)
    ],
)  # fmt: skip


def test_probabilities_follow_the_sizes_and_none_is_above_one() -> None:
    found = probabilities(np.array([1.0, 1.0, 2.0, 30.0]), 3)
    assert found == pytest.approx([0.5, 0.5, 1.0, 1.0])
    assert probabilities(np.ones(10), 4) == pytest.approx(np.full(10, 0.4))


def test_a_table_of_another_tool_is_read_and_its_errors_are_named(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("prompt_id,generator,score,rater,probability\np1,tiny,4,ann,\nx,gpt,,bob,.25\n")
    known, other = importing.labels_of(file, DRAW, "m")
    assert (known.weight, known.score, known.status) == (2.0, 4.0, "scored")  # as it was drawn
    assert (other.weight, other.score, other.status) == (4.0, None, "skipped")
    for bad, said in (
        ("p1,tiny,9,ann,", "outside the scale 1-5"), ("p1,nobody,3,ann,", "tiny or gpt"),
        ("p1,tiny,good,ann,", "no number"),
    ):  # fmt: skip
        file.write_text(f"prompt_id,generator,score,rater,probability\n{bad}\n")
        with pytest.raises(BadInput, match=said):
            importing.labels_of(file, DRAW, "m")
    file.write_text(json.dumps({"item": "i1", "draw": "another", "rater": "a", "a": 1, "b": 2}))
    with pytest.raises(BadInput, match="another draw"):
        importing.labels_of(file, DRAW, "m")


def press(tab: chromium.Tab, *keys: Any) -> None:
    for key in keys:
        event = f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}})"
        tab.value(f"document.dispatchEvent({event})")


def name(tab: chromium.Tab, rater: str) -> None:
    field = "document.querySelector('#rater')"
    tab.value(f"{field}.value = '{rater}'; {field}.dispatchEvent(new Event('change'))")


@pytest.mark.slow
def test_twenty_labels_by_keyboard_with_a_reload_and_a_second_rater(
    tab: chromium.Tab, tmp_path: Path
) -> None:
    file = tmp_path / "label.html"
    shown = [
        Shown([{"role": "user", "content": HOSTILE}], HOSTILE, f"answer {n}") for n in range(20)
    ]
    file.write_text(page(DRAW, shown, "mark"), encoding="utf-8")
    assert "tiny" not in file.read_text()
    assert "gpt" not in file.read_text()
    ready = "!!document.querySelector('#main')?.dataset.item"
    tab.errors.clear()
    tab.open(file, ready=ready)
    press(tab, 3)  # nobody's label
    assert tab.value("exported()") == ""
    name(tab, "ann")
    for n in range(11):
        press(tab, 1 + n % 5, 5)
    tab.open(file, ready=ready)  # goes on where it stopped, as the same rater
    assert tab.value("document.querySelector('#main').dataset.item") == "i11"
    for _ in range(8):
        press(tab, 2, 4)
    press(tab, "s")
    assert tab.value("document.querySelector('#count').textContent") == "20 of 20, skipped"
    export = tab.value("exported()")
    name(tab, "bob")
    assert tab.value("document.querySelector('#main').dataset.item") == "i0"
    press(tab, 5, 5)
    second = tab.value("exported()")
    assert tab.value("document.title") == "Labels"
    assert tab.value("document.querySelectorAll('main img, main script').length") == 0
    assert tab.errors == []
    rows = []
    for number, text in enumerate((export, second)):
        out = tmp_path / f"{number}.jsonl"
        out.write_text(text)
        rows += importing.labels_of(out, DRAW, "mark")
    rows = importing.merged(rows, rows)
    assert len(rows) == 42
    found = {(row.prompt_id, row.generator, row.rater): row.score for row in rows}
    assert (found["p1", "tiny", "ann"], found["p1", "gpt", "ann"]) == (2, 5)
    assert (found["p2", "tiny", "ann"], found["p2", "gpt", "ann"]) == (5, 3)  # b is the local one
    assert found["p19", "tiny", "ann"] is None
    assert found["p0", "gpt", "bob"] == 5


def labelled_run(root: Path, bias: float, noise: float = 4.0, n: int = 120) -> tuple[Path, Any]:
    """A run whose judge favours a local model that humans find 10 points worse."""
    run_json = holdouts.made(root, -10.0 + bias, prompts=200)
    record = json.loads(run_json.read_text())
    rng = np.random.default_rng(0)
    truth = {}
    for role, generator in (("evaluation", "tiny"), ("baseline", "gpt")):
        stage = root / record["holdout"]["stages"][f"{role}.j"]
        answers = f"{'inference' if role == 'evaluation' else 'baseline'}/{stage.name}"
        write(root / answers / "out", [
            Answer(f"p{n}", f"g{n}", 0, f"text {n}", 3, "stop", generator, "x") for n in range(200)
        ])  # fmt: skip
        (root / answers / "DONE").touch()
        (root / answers / "meta.json").write_text("{}")
        (stage / "inputs.json").write_text(json.dumps({"inputs": {"answers": answers}}))
        for line in (stage / "out/rows.jsonl").read_text().splitlines():
            verdict = json.loads(line)
            score = verdict["precision"] - (bias if generator == "tiny" else 0)
            truth[verdict["prompt_id"], generator] = score + rng.normal(0, noise)
    record["config"]["gate"]["floor"] = 0.3
    run_json.write_text(json.dumps(record))
    assert main(["label", str(run_json), "--n", str(n), "--scale", "0-100"]) == 0
    return run_json, truth


def import_labels(run_json: Path, scores: Any) -> None:
    drawn = json.loads((run_json.parent / "labels/draw.json").read_text())
    lines = ["prompt_id,generator,score,rater"]
    for item in drawn["items"]:
        for generator in ("tiny", "gpt"):
            score = min(max(scores[item["prompt_id"], generator], 0), 100)
            lines.append(f"{item['prompt_id']},{generator},{score:.3f},ann")
    file = run_json.parent / "labels.csv"
    file.write_text("\n".join(lines))
    assert main(["label", str(run_json), "--import", str(file)]) == 0


@pytest.mark.slow
def test_labels_overrule_a_judge_that_favours_the_local_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json, truth = labelled_run(tmp_path, 10.0)
    folder = run_json.parent / "labels"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o600}
    assert holdouts.decide(tmp_path, str(run_json)) == 0
    said = capsys.readouterr().out
    assert "MIGRATE:" in said
    assert "no labels: what judges say" in said
    import_labels(run_json, truth)
    labels = read_labels(run_json.parent)
    assert labels is not None
    assert len(labels.rows) == 240
    capsys.readouterr()
    assert holdouts.decide(tmp_path, str(run_json)) == 1
    said = capsys.readouterr().out
    assert said.startswith("NOT YET: ")
    assert "look 2" in said  # another label set is another look
    assert "it is kinder to the local model" in said
    written = json.loads((run_json.parent / "decision.json").read_text())
    assert written["difference"]["mean"] == pytest.approx(-10, abs=1.5)
    assert written["humans"]["judges"]["j"]["may_decide"] is True
    assert written["humans"]["labels"] == labels.digest


@pytest.mark.slow
def test_a_judge_that_humans_do_not_vouch_for_may_not_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json, truth = labelled_run(tmp_path, 0.0)
    rng = np.random.default_rng(1)
    import_labels(run_json, {key: rng.uniform(60, 100) for key in truth})
    capsys.readouterr()
    assert holdouts.decide(tmp_path, str(run_json)) == 1
    said = capsys.readouterr().out
    assert said.startswith("INCONCLUSIVE: No judge may decide. j: Spearman with humans is ")
    assert "j: this judge may not decide" in said
    assert "no number of labels would settle it" in said


def test_labels_of_another_rounds_answers_are_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json, truth = labelled_run(tmp_path, 10.0)
    import_labels(run_json, truth)
    draw = run_json.parent / "labels/draw.json"
    values = json.loads(draw.read_text())
    values["answers"]["tiny"] = "inference/another"
    draw.write_text(json.dumps(values))
    capsys.readouterr()
    assert holdouts.decide(tmp_path, str(run_json)) == 0
    assert "labels are of other answers" in capsys.readouterr().out


@pytest.mark.slow
def test_a_dear_judge_labels_a_part_and_its_cost_stands_beside_the_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json, _ = labelled_run(tmp_path, 0.0, n=60)
    record = json.loads(run_json.read_text())
    whole = as_dict(evaluations.config())
    record["config"] = whole | record["config"] | {"gate": whole["gate"] | {"floor": None}}
    for name in ("baseline", "synthesis", "task", "model"):
        record["config"][name] = whole[name]
    run_json.write_text(json.dumps(record))
    stage = tmp_path / record["holdout"]["stages"]["evaluation.j"]
    (stage / "meta.json").write_text(json.dumps({"calls": {"microusd": 1_250_000}}))
    judge = ("label", str(run_json), "--n", "60", "--judge")
    (run_json.parent / "labels/draw.json").unlink()
    assert main([*judge, "offline_strict"]) == 0
    assert "60 prompts, two answers each, by offline_strict: $0.0000" in capsys.readouterr().out
    labels = read_labels(run_json.parent)
    assert labels is not None
    assert {(row.rater, row.scale, row.weight) for row in labels.rows} == {
        ("offline_strict", "0-100", 200 / 60)
    }
    assert len(labels.rows) == 120
    assert all(row.score is not None for row in labels.rows)
    again = [row.to_dict() for row in labels.rows]
    assert main([*judge, "offline_strict"]) == 0
    assert [row.to_dict() for row in read_labels(run_json.parent).rows] == again  # type: ignore[union-attr]
    capsys.readouterr()
    holdouts.decide(tmp_path, str(run_json))
    said = capsys.readouterr().out
    assert "local - service is on offline_strict's scale, prediction-powered" in said
    assert "cascade: offline_strict on 60 of 200 prompts for $0.0000, j on all for $1.2500" in said
    written = json.loads((run_json.parent / "decision.json").read_text())
    assert written["humans"]["cascade"]["all_usd"] == 1.25

    assert main([*judge, "offline"]) == 2
    assert "has judged all of" in capsys.readouterr().err
    assert main([*judge, "offline_panel"]) == 2
    assert "is no single judge" in capsys.readouterr().err
    assert main(["label", str(run_json), "--import", "x"]) == 2
    assert "has labels of a judge" in capsys.readouterr().err
    (run_json.parent / "labels/asked.json").unlink()
    assert main([*judge, "offline_strict"]) == 2
    assert "has labels of humans" in capsys.readouterr().err
