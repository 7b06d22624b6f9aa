"""The report page and the comparison figure, on runs written by the test."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from support import fake_runs, panel_runs
from understudy.errors import BadInput
from understudy.report.page import curve, load_analysis, main, report
from understudy.store.artifacts import write_atomically


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a finished rehearsal whose answers try to be markup."""
    root = tmp_path_factory.mktemp("rehearsal")
    run = fake_runs.write_run(root, text="<script>alert(1)</script> $x_1$")
    return report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a finished run as it is written."""
    run = fake_runs.write_run(tmp_path_factory.mktemp("plain"))
    return report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a real run with calls on record, whose training set nobody has counted."""
    root = tmp_path_factory.mktemp("real")
    run = fake_runs.write_run(root, rehearsal=False)
    calls = {"calls": 30, "from_journal": 12, "input_tokens": 4000, "microusd": 123456}
    for path in ("evaluation/e0", "evaluation/b0"):
        meta = json.loads((root / path / "meta.json").read_text()) | {"calls": calls}
        (root / path / "meta.json").write_text(json.dumps(meta))
    (root / "subset/s0/out/summary.json").unlink()
    return report(run).read_text(encoding="utf-8")


def cells(page: str) -> list[str]:
    """The text of the table cells, without markup."""
    found = re.findall(r"<td[^>]*>(.*?)</td>", page, flags=re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in found]


def test_page_shows_every_number_of_the_evaluation(page: str) -> None:
    row = cells(page)[:13]
    assert row == [
        *("offline", "0", "3 / 3"),
        *("41.2 [33.5, 48.8]", "50 %", "25 %"),
        *("52.5 [44.5, 60.2]", "62 %", "38 %"),
        *("87.5 [81.2, 93.8]", "–"),
        *("33.3 % [6.2, 79.2]", "1"),
    ]


def test_page_shows_missing_scores_as_dashes_and_never_as_zero(page: str) -> None:
    baseline = cells(page)[13:26]
    assert baseline[3] == "80.5 [75.2, 85.8]"
    assert baseline[1] == "–"  # no data size
    assert baseline[6:12] == ["–"] * 6


def test_page_states_the_decision_and_its_reason(page: str) -> None:
    text = re.sub(r"<[^>]+>", "", page)
    assert "The local model does not pass the gate. the ladder ends at 0 rows" in text


def test_page_escapes_what_a_model_wrote(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_browser_is_told_to_run_no_script_but_the_pages_own(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'; style-src" in page


def test_page_needs_no_other_resource(page: str) -> None:
    assert set(re.findall(r'[\w:]+="https?://[^"]*"', page)) == {
        'xmlns="http://www.w3.org/2000/svg"',
        'xmlns:xlink="http://www.w3.org/1999/xlink"',
    }
    assert len(re.findall("https?:", page)) == len(re.findall(r'xmlns[:\w]*="http:', page))
    assert " src=" not in page


def test_ids_are_unique_although_the_page_holds_several_figures(page: str) -> None:
    ids = re.findall(r' id="([^"]+)"', page)
    assert page.count("<svg") == 4  # scores, density, training, costs
    assert len(ids) == len(set(ids))


def test_rehearsal_is_said_by_the_page_and_by_each_figure(page: str) -> None:
    assert "offline stand-ins, no LLM was asked" in page
    for figure in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert "REHEARSAL<" in figure


@pytest.mark.slow
def test_a_real_run_is_not_called_a_rehearsal(real: str) -> None:
    assert "rehearsal" not in real.lower()


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    pages = []
    for place in ("a", "b"):
        run = fake_runs.write_run(tmp_path / place)
        pages.append(report(run).read_bytes())
    assert pages[0] == pages[1]


def test_best_median_and_worst_answer_are_shown(plain: str) -> None:
    titles = re.findall(r'<h3>(\w+) <span class="muted">similarity ([\d.]+)', plain)
    assert titles == [("Best", "90.0"), ("Median", "90.0"), ("Worst", "20.0")]


@pytest.mark.slow
def test_an_unfinished_run_shows_what_is_finished(tmp_path: Path) -> None:
    run = fake_runs.write_run(tmp_path, decision=None)
    for path in ("evaluation/e0", "gate/g0"):
        (tmp_path / path / "DONE").unlink()
    text = report(run).read_text(encoding="utf-8")
    assert "Not decided yet." in text
    assert "5 of the 7 stages begun so far are done" in text
    assert "not finished" in text
    assert cells(text)[3] == "80.5 [75.2, 85.8]"  # the baseline alone
    assert "41.2" not in re.sub(r"(?s)<svg\b.*?</svg>", "", text)


def test_a_run_without_any_finished_stage_has_a_page(tmp_path: Path) -> None:
    path = fake_runs.write_run(tmp_path, decision=None, stages={}, rounds=[])
    text = report(path).read_text(encoding="utf-8")
    assert "No evaluation is finished yet." in text
    assert "<svg" not in text


@pytest.mark.slow
def test_the_decision_on_the_holdout_comes_first(tmp_path: Path) -> None:
    run = panel_runs.write(tmp_path)
    ends = {"error": 1.0, "clusters": 6, "form": "t"}
    lost = {"mean": -2.5, "low": -4.25, "high": -0.75, **ends}
    decided = {
        **{"decision": "INCONCLUSIVE", "reason": "The limit is below the margin."},
        **{"metric": "precision", "margin": 5.0, "alpha": 0.05, "look": 2, "level": 0.025},
        **{"prompts": 60, "missing": 3, "difference": lost, "judges": {"fair": lost}},
        **{"beside": {"similarity": {**lost, "mean": None, "low": None, "high": None}}},
        **{"more_prompts": 140, "verdicts_per_answer": None},
        "warnings": ["judge fair is of the teacher's family"],
        "serving": {
            "local": {
                **{"generator": "tiny", "answers": 60, "p50_s": 0.25, "p95_s": 1.5},
                **{
                    "timed": "60 calls",
                    "refusals": {**ends, "mean": 0.05, "low": 0.0, "high": 0.1},
                },
            },
            "service": None,
            "pays": {"requests": 1234.0, "most": 1e6},
        },
    }
    (run.parent / "decision.json").write_text(json.dumps(decided))
    page = report(run).read_text(encoding="utf-8")
    first = " ".join(re.sub(r"<[^>]+>", " ", page[page.index('id="decision"') :]).split())
    assert first.index("INCONCLUSIVE. The limit is below the margin.") < 30
    assert "precision all judges 6 -2.50 [-4.2, -0.8]" in first
    assert "60 prompts of the holdout in 6 clusters; 3 prompts lack a score." in first
    assert "Look 2 at this workload, one-sided level 0.025" in first
    assert "looks up to this one have spent 0.0438 of alpha 0.05" in first
    assert "local tiny 0.25 1.50 60 calls 5.0 % [0.0, 10.0] 60 / 6" in first
    assert "The local model pays from 1,234 requests a day" in first
    assert "About 140 more prompts would decide it" in first
    assert "Warning: judge fair is of the teacher" in first
    assert "On the test split: The local model passes the gate in round 0" in first


@pytest.mark.slow
def test_lenient_and_strict_judges_are_called_so(tmp_path: Path) -> None:
    page = report(panel_runs.write(tmp_path, prompts=40)).read_text(encoding="utf-8")
    readings = re.findall(r'class="reading (lenient|strict|even)">([^<]+)<', page)
    assert [kind for kind, _ in readings] == ["even", "lenient", "strict"] * 2
    shifts = [float(re.findall(r"[\d.]+", words)[0]) for kind, words in readings if kind != "even"]
    assert all(7 < shift < 9 for shift in shifts)  # 8 were planted
    assert "Krippendorff&#39;s α" in page


def test_costs_are_what_the_stages_recorded_and_missing_where_they_recorded_none(real: str) -> None:
    costs = cells(real[real.index('id="costs"') : real.index('id="data"')])
    rows = {costs[start]: costs[start + 1 : start + 8] for start in range(0, len(costs), 8)}
    assert rows["evaluation"] == ["2", "25.0 s", "60", "24", "8,000", "–", "0.2469"]
    assert rows["split"] == ["1", "12.5 s", "–", "–", "–", "–", "–"]
    assert rows["all"][2:] == rows["evaluation"][2:]


def test_what_was_left_out_is_counted_with_its_reason(plain: str) -> None:
    left = re.findall(r'class="count left">([^<]+)<', plain)
    unscored = ["unscored 1", "unscored: unparsable 1"]
    assert left == [*unscored, "contaminated human 2", *unscored]
    assert re.findall(r"· contaminated ([^<]+)<", plain) == ["2 of 35", "– (not trained)"]


def test_a_training_set_that_nobody_counted_has_a_dash_and_the_reason(real: str) -> None:
    assert re.findall(r"· contaminated ([^<]+)<", real) == [
        "– (not counted)",
        "– (not trained)",
    ]


def four_runs(root: Path) -> None:
    """One task: the base model and three sizes."""
    for name, size, kind in (("base", 0, "none"), ("0", 0, "full"), ("250", 250, "full")):
        config = fake_runs.CONFIG | {"trainer": {"kind": kind}}
        run = fake_runs.write_run(root / name, f"curve-qa-{name}", config=config)
        record = json.loads(run.read_text())
        record["rounds"][0]["data_size"] = size
        # one root holds all runs, so their stages get names of their own
        for part in (root / name).iterdir():
            if part.name != "run":
                for stage in part.iterdir():
                    target = root / part.name / f"{stage.name}{name}"
                    target.parent.mkdir(exist_ok=True)
                    stage.rename(target)
        for stages in (record["stages"], record["rounds"][0]["stages"]):
            stages.update({role: f"{path}{name}" for role, path in stages.items()})
        if kind == "none":
            del record["rounds"][0]["stages"]["subset"]
        target = root / "run" / record["name"] / "run.json"
        target.parent.mkdir(parents=True)
        write_atomically(target, json.dumps(record))


def test_curve_writes_a_figure_and_its_numbers(tmp_path: Path) -> None:
    four_runs(tmp_path / "rehearsal")
    arguments = ["--curve", "curve-*", "--root", str(tmp_path)]
    assert main([*arguments, "--out", str(tmp_path / "out" / "curve.svg")]) == 0
    assert "<svg" in (tmp_path / "out" / "curve.svg").read_text()
    lines = (tmp_path / "out" / "curve.md").read_text().splitlines()
    assert lines[0].startswith("REHEARSAL: offline stand-ins, no LLM was asked. 3 test prompts")
    score = "33.3 % [6.2, 79.2] | offline | 41.2 [33.5, 48.8] | 52.5 [44.5, 60.2]"
    assert lines[4:] == [
        f"| closed_qa | base model | {score} | – | – (not trained) |",
        f"| closed_qa | 0 | {score} | 66.7 % | 2 of 35 |",
        f"| closed_qa | 250 | {score} | 66.7 % | 2 of 35 |",
    ]


def test_curve_leaves_out_what_is_not_finished(tmp_path: Path) -> None:
    four_runs(tmp_path)
    (tmp_path / "evaluation" / "e0250" / "DONE").unlink()
    (tmp_path / "evaluation" / "b0250" / "DONE").unlink()
    table = curve(tmp_path, "curve-*", tmp_path / "curve.png").with_suffix(".md").read_text()
    assert "| closed_qa | 0 |" in table
    assert "| closed_qa | 250 |" not in table


def test_curve_refuses_what_it_cannot_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve.svg"
    assert main(["--curve", "nosuch-*", "--root", str(tmp_path), "--out", str(out)]) == 2
    assert "matches 'nosuch-*'" in capsys.readouterr().err
    for root, is_rehearsal in ((tmp_path, False), (tmp_path / "rehearsal", True)):
        fake_runs.write_run(root, "curve-qa", is_rehearsal)
    with pytest.raises(BadInput, match="never share a figure"):
        curve(tmp_path, "curve-*", out)
    with pytest.raises(BadInput, match=r"end its name in \.svg or \.png"):
        load_analysis().write_curve(tmp_path, ["curve-qa"], tmp_path / "curve.jpg")


@pytest.mark.slow
def test_what_stages_warn_of_stands_in_the_page_once(tmp_path: Path) -> None:
    run = fake_runs.write_run(tmp_path)
    metas = [path for path in tmp_path.rglob("meta.json") if (path.parent / "DONE").is_file()]
    for path in metas:
        made = json.loads(path.read_text()) | {"warnings": ["coverage: <a> nobody reads"]}
        path.write_text(json.dumps(made))
    page = report(run).read_text(encoding="utf-8")
    assert metas
    assert page.count("<strong>Warning:</strong> coverage: &lt;a&gt; nobody reads") == 1
