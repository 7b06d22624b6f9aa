"""The page's row browser: what is packed, and how it behaves in a headless Chromium."""

import base64
import json
import re
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from support import chromium, fake_runs, panel_runs
from understudy.pipeline.record import RunRecord
from understudy.report.page import load_analysis, report

HOSTILE = (
    "</script><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\"><!-- \u2028"
)


def inflate(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text), -15).decode())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def packed(root: Path, run: Path, **budget: int) -> Any:
    load_analysis()
    browser = import_module("understudy_analysis.browser")
    return browser.pack(browser.collect(RunRecord.read(run)), **budget)


def test_chunks_hold_every_text_and_every_single_score(tmp_path: Path) -> None:
    found = packed(tmp_path, panel_runs.write(tmp_path, prompts=4, repeats=3))
    index, (chunk,) = inflate(found.index), map(inflate, found.chunks)
    assert index["judges"] == ["fair", "lenient", "strict"]
    assert [name for name, _ in index["systems"]] == ["baseline", "round-0"]
    assert index["ids"] == ["p0", "p1", "p2", "p3"]
    assert index["prompt"] == [0, 0, 1, 1, 2, 2, 3, 3]
    split = rows(tmp_path / "split/p0/out/rows.jsonl")
    assert [prompt[1] for prompt in chunk["prompts"]] == [
        row["messages"][1]["content"] for row in split
    ]
    answers = rows(tmp_path / "inference/i0/out/rows.jsonl")
    assert [row[0] for row in chunk["rows"][1::2]] == [row["text"] for row in answers]
    verdicts = rows(tmp_path / "evaluation/l-strict/out/rows.jsonl")
    for number, row in enumerate(chunk["rows"][1::2]):
        mine = verdicts[3 * number : 3 * number + 3]
        assert row[2][2][:2] == [[v["similarity"] for v in mine], [v["precision"] for v in mine]]
        assert row[2][2][2:] == [mine[0]["reason_similarity"], mine[0]["reason_precision"], {}]
        mean = sum(v["precision"] for v in mine) / 3
        assert index["means"]["precision"][2][2 * number + 1] == pytest.approx(mean, abs=0.051)


def test_an_answer_nobody_scored_has_a_reason_and_no_mean(tmp_path: Path) -> None:
    found = packed(tmp_path, fake_runs.write_run(tmp_path))
    index, (chunk,) = inflate(found.index), map(inflate, found.chunks)
    assert index["means"]["precision"] == [[90.0, 90.0, 20.0, 20.0, None, None]]
    assert chunk["rows"][-1][2] == [[[], [], None, None, {"unparsable": 1}]]


def test_the_holdout_is_beside_the_test_split(tmp_path: Path) -> None:
    run = fake_runs.write_run(tmp_path)
    record = json.loads(run.read_text())
    stages = {"evaluation.offline": "evaluation/e0", "baseline.offline": "evaluation/b0"}
    for path, answers in (("evaluation/e0", "inference/h"), ("evaluation/b0", "baseline/h")):
        fake_runs.stage(tmp_path, answers, fake_runs.answers("tiny", "on the holdout"))
        fake_runs.judged(tmp_path, path, answers)
    record |= {"rounds": [], "stages": {}, "holdout": {"round": 0, "stages": stages}}
    run.write_text(json.dumps(record))
    systems = inflate(packed(tmp_path, run).index)["systems"]
    assert systems == [
        ["holdout-local", "Holdout, Local model: tiny"],
        ["holdout-baseline", "Holdout, Service baseline: offline"],
    ]


def test_texts_are_shortened_only_as_far_as_the_budget_asks(tmp_path: Path) -> None:
    run = panel_runs.write(tmp_path, prompts=60, words=200)
    whole = packed(tmp_path, run)
    assert (whole.cut, whole.shortened) == (None, 0)
    size = len(whole.index) + sum(map(len, whole.chunks))
    cut = packed(tmp_path, run, budget=size // 2)
    assert 0.4 * size < len(cut.index) + sum(map(len, cut.chunks)) <= size // 2
    answer = inflate(cut.chunks[0])["rows"][0][0]
    assert re.fullmatch(rf".{{{cut.cut}}} … \(\d+ more characters\)", answer)


@pytest.mark.slow
def test_what_a_model_wrote_is_nowhere_in_the_page_as_it_is(tmp_path: Path) -> None:
    page = report(panel_runs.write(tmp_path, hostile=HOSTILE)).read_bytes()
    assert b"owned'</script" not in page
    assert b"<img" not in page
    assert page.count(b"</script>") == page.count(b"<script") == 3  # index, a chunk, the program


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("panel")
    return report(panel_runs.write(root, prompts=60, hostile=HOSTILE))


def count(tab: chromium.Tab) -> int:
    """How many answers the filter leaves."""
    text: str = tab.value("document.querySelector('#found').textContent")
    return int(text.split(" of ")[0].replace(",", ""))


def choose(tab: chromium.Tab, name: str, value: str) -> None:
    """Fill in a field of the filter as a user does."""
    field = f"document.querySelector('#filters').elements['{name}']"
    event = "new Event('input', {bubbles: true})"
    tab.value(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent({event})")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_page_opens_without_error_or_request_and_hostile_text_stays_text(
    tab: chromium.Tab, page: Path, dark: bool
) -> None:
    tab.errors.clear()
    tab.requests.clear()
    tab.open(page, "#row=round-0:0:p7", dark=dark)
    tab.wait("document.querySelector('#detail').dataset.row === 'round-0:0:p7'")
    assert tab.errors == []
    assert set(tab.requests) == {page.as_uri()}
    assert tab.value("document.title") == "panel · understudy · REHEARSAL"
    shown: str = tab.value("document.querySelector('#detail').textContent")
    assert shown.count("</script><script>document.title='owned'") == 9  # 3 texts, 3 x 2 reasons
    assert tab.value("document.querySelectorAll('#detail img, #detail script').length") == 0
    ink, paper = (
        tab.value(f"getComputedStyle(document.body).{part}.match(/\\d+/)[0] | 0")
        for part in ("color", "backgroundColor")
    )
    assert (ink > paper) == dark


@pytest.mark.slow
def test_filters_narrow_the_list_and_stand_in_the_address(tab: chromium.Tab, page: Path) -> None:
    tab.open(page)
    assert count(tab) == 120
    choose(tab, "task", "coding")
    assert count(tab) == 60
    choose(tab, "system", "round-0")
    assert count(tab) == 30
    choose(tab, "state", "unfinished")
    assert count(tab) == 6
    choose(tab, "state", "")
    choose(tab, "judge", "2")
    choose(tab, "max", "62")
    index = inflate(re.findall(r'id="index">([^<]+)<', page.read_text(encoding="utf-8"))[0])
    wanted = sum(
        index["task"][prompt] == 1 and index["system"][row] == 1
        and index["means"]["precision"][2][row] <= 62
        for row, prompt in enumerate(index["prompt"])
    )  # fmt: skip
    assert 0 < count(tab) == wanted < 30
    address = tab.value("location.hash")
    assert address == "#task=coding&system=round-0&judge=2&max=62"
    tab.open(page, address)
    assert count(tab) == wanted
    choose(tab, "max", "")
    choose(tab, "apart", "15")
    apart = [
        max(scores) - min(scores)
        for scores in zip(*index["means"]["precision"], strict=True)
    ]  # fmt: skip
    assert count(tab) == sum(
        index["task"][prompt] == 1 and index["system"][row] == 1 and apart[row] >= 15
        for row, prompt in enumerate(index["prompt"])
    )


@pytest.mark.slow
def test_a_clicked_row_can_be_linked_to_and_an_unknown_one_is_said_to_be_missing(
    tab: chromium.Tab, page: Path
) -> None:
    tab.open(page)
    tab.value("document.querySelector('#list tbody tr:nth-child(3) a').click()")
    tab.wait("!!document.querySelector('#detail').dataset.row")
    shown = tab.value("document.querySelector('#detail').textContent")
    tab.open(page, tab.value("location.hash"))
    tab.wait("!!document.querySelector('#detail').dataset.row")
    assert tab.value("document.querySelector('#detail').textContent") == shown
    tab.open(page, "#row=round-9:0:p7")
    assert "no row round-9:0:p7" in tab.value("document.querySelector('#detail').textContent")


@pytest.mark.slow
def test_a_real_rehearsal_shows_decision_curve_and_planted_judges(
    tab: chromium.Tab, tmp_path: Path
) -> None:
    small = [
        *("coverage.rows=96", "coverage.split.test=24", "coverage.split.holdout=16"),
        *("trainer.max_steps=6", "trainer.evaluations=2", "inference.max_new_tokens=40"),
        *("loop.sizes=[0,50]", f"paths.root={tmp_path}"),
    ]
    call(0, "run", "experiment=demo", *small)
    tab.errors.clear()
    tab.requests.clear()
    page = tmp_path / "rehearsal/run/demo/report.html"
    tab.open(page)
    assert tab.value("document.querySelector('#decision').getBoundingClientRect().bottom") < 600
    curve = "document.querySelector('#size + figure svg')"
    assert tab.value(f"{curve}.getBoundingClientRect().width") > 600
    drawn = "Array.from(document.querySelectorAll('figure'), (one) => one.ariaLabel)"
    for figure in ("Precision against data size", "Density of the answers", "Cumulative cost"):
        assert any(label.startswith(figure) for label in tab.value(drawn)), figure
    words = "Array.from(document.querySelectorAll('.reading.lenient, .reading.strict'), (one) =>"
    said = tab.value(f"{words} one.closest('tr').cells[0].textContent + ' ' + one.className)")
    assert "offline_lenient reading lenient" in said
    assert "offline_strict reading strict" in said
    assert not [one for one in said if one.startswith("offline ")]
    assert count(tab) == 144  # 24 prompts, 2 samples, 2 rounds and the service
    tab.value("document.querySelector('#list a').click()")
    tab.wait("!!document.querySelector('#detail').dataset.row")
    assert tab.errors == []
    assert set(tab.requests) == {page.as_uri()}
    # The same stages under a gate that everybody passes: then there is something to decide.
    passing = ("run.name=decided", "gate.similarity=0", "gate.precision=0")
    call(0, "run", "experiment=demo", *small, *passing)
    said = call(1, "decide", "decided", "--root", str(tmp_path))
    tab.open(tmp_path / "rehearsal/run/decided/report.html")
    first: str = tab.value("document.querySelector('#decision strong').textContent")
    assert first.removesuffix(".") == said.partition(":")[0] != "MIGRATE"


def call(code: int, *arguments: str) -> str:
    """What the command prints; it must end with this exit code."""
    command = [sys.executable, "-m", "understudy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.slow
def test_page_fits_a_phone(tab: chromium.Tab, page: Path) -> None:
    tab.open(page, "#row=round-0:0:p7", width=390)
    tab.wait("!!document.querySelector('#detail').dataset.row")
    assert tab.value("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_twenty_thousand_rows_stay_small_and_quick(tab: chromium.Tab, tmp_path: Path) -> None:
    path = report(panel_runs.write(tmp_path, prompts=10_000, repeats=10))
    assert path.stat().st_size <= 25_000_000
    tab.open(path)
    (paint,) = tab.value(
        "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)"
    )
    assert count(tab) == 20_000
    choose(tab, "task", "coding")
    choose(tab, "find", "e")
    choose(tab, "min", "60")
    choose(tab, "apart", "10")
    assert 0 < count(tab) < 10_000
    filters = tab.value("performance.getEntriesByName('filter').map((entry) => entry.duration)")
    print(f"{path.stat().st_size:,} bytes, first paint {paint:.0f} ms, "
          f"slowest filter {max(filters):.0f} ms")  # fmt: skip
    assert paint <= 2000
    assert max(filters) <= 300
