"""`understudy watch` on a gateway's log and on files: whom it asks, what it says and leaves."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from support import evaluations
from support.watched_runs import WRONG, logged, made, pairs
from understudy.cli.main import main
from understudy.config import build, changed
from understudy.config.compose import compose
from understudy.data.coverage import find
from understudy.rehearsal.server import RehearsalServer
from understudy.watch import traffic


def watch(root: Path, *words: str) -> int:
    return main(["watch", "move", *words, "watch.share=100", "--root", str(root)])


def state(root: Path) -> dict[str, Any]:
    text = (root / "rehearsal/watch/move/state.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.slow
def test_a_fall_is_told_with_its_prompts_and_nobody_is_judged_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    gateway, asked = tmp_path / "rehearsal/gateway", pairs(60)
    logged(gateway, [(one.instruction, one.response) for one in asked[:30]])
    logged(gateway, [(one.instruction, one.response) for one in asked[:5]])  # the same talks again
    assert watch(tmp_path) == 5
    assert "TOO EARLY" in capsys.readouterr().out
    assert (state(tmp_path)["judged"], state(tmp_path)["sampled"]) == (30, 30)

    logged(gateway, [(one.instruction, WRONG) for one in asked[30:]])
    assert watch(tmp_path, "watch.judged=32") == 5
    assert state(tmp_path)["judged"] == 32
    assert watch(tmp_path) == 1
    said = capsys.readouterr().out
    assert "ALARM. local - service" in said
    assert 32 < state(tmp_path)["judged"] <= 60  # and no more are asked about
    folder = tmp_path / "rehearsal/watch/move"
    files = [path for path in folder.iterdir() if path.is_file()]
    assert {path.name for path in files} == {
        *("judged.jsonl", "state.json", "report.html", "metrics.prom", "next_coverage.jsonl"),
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    metrics = (folder / "metrics.prom").read_text(encoding="utf-8")
    assert 'understudy_watch_alarm{run="move"} 1\n' in metrics
    assert asked[31].instruction not in (folder / "report.html").read_text(encoding="utf-8")
    source = changed(
        evaluations.config().coverage, {"kind": "file", "path": str(folder / "next_coverage.jsonl")}
    )
    bad = find(source, "closed_qa").pairs  # as the next run reads them
    right = {one.instruction: one.response for one in asked[30:]}
    assert len(bad) >= 8
    assert all(right[r.messages[0]["content"]] == r.messages[1]["content"] for r in bad)

    assert watch(tmp_path, "--restart") == 5
    assert state(tmp_path)["judged"] == 0
    assert len(list(folder.glob("judged.*.jsonl"))) == 1


@pytest.mark.slow
def test_good_answers_are_ok_in_the_end(tmp_path: Path) -> None:
    made(tmp_path)
    asked = [(one.instruction, one.response) for one in pairs(700)]
    logged(tmp_path / "rehearsal/gateway", asked)
    assert watch(tmp_path) == 0
    found = state(tmp_path)
    assert found["verdict"] == "OK"
    assert found["low"] > -5
    assert found["mean"] == pytest.approx(0, abs=1)


def test_the_level_at_the_migration_stands_for_the_service(tmp_path: Path) -> None:
    made(tmp_path, service_mean=80.0)
    logged(tmp_path / "rehearsal/gateway", [(one.instruction, WRONG) for one in pairs(60)])
    assert watch(tmp_path, "watch.compare=level") == 1
    assert (state(tmp_path)["floor"], state(tmp_path)["mean"] < 60) == (75.0, True)


@pytest.mark.slow
@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_that_is_none_is_worth_nothing(tmp_path: Path, finish: str) -> None:
    made(tmp_path)
    asked = [(one.instruction, one.response) for one in pairs(40)]
    logged(tmp_path / "rehearsal/gateway", asked, finish_reason=finish)
    assert watch(tmp_path) == 1
    assert state(tmp_path)["mean"] < -50


def answers(path: Path, local: float, rows: int = 400, **more: Any) -> Path:
    with path.open("w", encoding="utf-8") as lines:
        for number in range(rows):
            for name, score in (("small", local), ("gpt", 90.0)):
                lines.write(json.dumps({
                    "prompt": f"question {number} of {number * 7919 % 1000}", "reference": "r",
                    "candidate": f"{name} says {number}", "generator": name, "evaluator": "e",
                    "precision": score, "similarity": score, "group_id": str(number), **more,
                }) + "\n")  # fmt: skip
    return path


@pytest.mark.parametrize(("local", "code"), [(90.0, 0), (78.0, 1)])
def test_a_file_that_holds_verdicts_is_watched_without_asking_anybody(
    tmp_path: Path, local: float, code: int
) -> None:
    made(tmp_path)
    path = answers(tmp_path / "answers.jsonl", local)
    assert watch(tmp_path, "--log", str(path)) == code
    assert not (tmp_path / "rehearsal/journal").exists()


def test_a_share_of_conversations_is_always_the_same_one(tmp_path: Path) -> None:
    gateway = tmp_path / "gateway"
    logged(gateway, [(one.instruction, one.response) for one in pairs(400)])
    few, many = (traffic.of_gateway(gateway, share, 0.0).answers for share in (10.0, 40.0))
    assert {one.id for one in few} <= {one.id for one in many}
    assert 20 <= len(few) <= 60
    assert traffic.of_gateway(gateway, 100.0, 4e9).answers == []


@pytest.mark.slow
def test_a_watch_spends_no_more_than_it_may_and_goes_on_with_more(tmp_path: Path) -> None:
    with RehearsalServer() as star:
        paid = compose(["judge=gpt_4o", "baseline=gpt_4o"], None)
        made(tmp_path, config=build(paid))
        asked = [(one.instruction, one.response) for one in pairs(60)]
        logged(tmp_path / "rehearsal/gateway", asked)
        found = []
        for usd in (0.15, 0.15, 100.0, 100.0):
            assert watch(tmp_path, f"rehearsal.url={star.url}", f"watch.usd={usd}") == 5
            found.append((state(tmp_path)["judged"], star.bill().microusd))
        assert 0 < found[0][0] < 60
        assert found[0][1] <= 150_000
        assert found[1] == found[0]
        assert found[2][0] == 60
        assert state(tmp_path)["spent_usd"] == pytest.approx(star.bill().microusd / 1e6, abs=1e-6)
        assert found[3] == found[2]
        # Two answers and two verdicts each; equal answers to a prompt are judged once.
        assert 60 * 3 <= len(star.bill().log) <= 60 * 4


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    for words, said in (
        ((), "rehearsal/gateway does not exist; give --log"),
        (("--log", str(answers(tmp_path / "a.jsonl", 90.0)), "watch.action=rollback"), "is a file"),
        (("judge=offline",), "a watch takes watch.KEY=VALUE"),
    ):
        assert watch(tmp_path, *words) == 2
        assert said in capsys.readouterr().err
