"""The page of a sweep: cells best first, scores by axis, curves, costs, links to the cells."""

import json
import re
from pathlib import Path

import pytest

from support import chromium, grid_runs
from understudy.cli.main import main
from understudy.report.page import sweep_report
from understudy.sweep.record import SweepRecord


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve cells of two recipes, three seeds and two sizes; one has failed, one has not begun."""
    root = tmp_path_factory.mktemp("runs")
    cells = grid_runs.grid(trainer=("tiny", "lora"), seed=(0, 1, 2), data_size=(0, 250))
    path = grid_runs.write(root, cells)
    failed, waiting = root / "run/grid-00/run.json", root / "run/grid-01/run.json"
    record = json.loads(failed.read_text()) | {"decision": None, "rounds": []}
    failed.write_text(json.dumps(record))
    waiting.unlink()
    sweep = SweepRecord.read(path)
    sweep.cells[0].failed = "finetune/f0 ended with exit code 4 <b>&"
    sweep.write()
    return path


@pytest.fixture(scope="module")
def page(sweep: Path) -> str:
    return sweep_report(sweep).read_text(encoding="utf-8")


def rows(page: str) -> list[list[str]]:
    """The cells' rows as text."""
    body = page[page.index('id="cells"') : page.index("</tbody>")]
    return [
        [re.sub(r"<[^>]+>", " ", cell).strip() for cell in re.findall(r"(?s)<td.*?</td>", row)]
        for row in re.findall(r"(?s)<tr><td.*?</tr>", body)
    ]


@pytest.mark.slow
def test_cells_stand_with_axes_scores_and_intervals_best_first_failures_last(page: str) -> None:
    found = rows(page)
    assert len(found) == 12
    assert [row[0] for row in found] == [str(n) for n in range(1, 13)]
    scores = [float(row[4].split()[0]) for row in found[:10]]
    assert scores == sorted(scores, reverse=True)
    assert all(re.fullmatch(r"[\d.]+ +\[[\d.]+, [\d.]+\]", row[4]) for row in found[:10])
    assert found[0][1] == "lora"
    assert "not begun" in found[10][8]
    assert "failed" in found[11][8]


def test_every_axis_has_a_line_per_value_with_the_mean_of_its_cells(page: str) -> None:
    part = page[page.index('<h2 id="axes"') : page.index('<h2 id="costs"')]
    lines = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*)</tr>", part)]
    shown = [(line[0], line[1], line[2]) for line in lines if len(line) > 3]
    assert ("trainer", "tiny", "6") in shown
    assert ("trainer", "lora", "6") in shown
    assert [value for axis, value, _ in shown if axis == "seed"] == ["0", "1", "2"]


def test_shared_stages_are_paid_once_and_curves_have_both_recipes(page: str, sweep: Path) -> None:
    costs = page[page.index('<h2 id="costs"') :]
    root = sweep.parents[2]
    inference = len(list((root / "inference").iterdir())) - 2  # of cells that failed or not begun
    assert f'<td>inference</td><td class="n">{inference}</td>' in costs
    curves = page[page.index('<h2 id="size"') : page.index('<h2 id="costs"')]
    assert "trainer tiny" in curves
    assert "trainer lora" in curves
    assert "between seeds" in curves


def test_the_page_is_self_contained_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    assert "script-src" not in page
    assert "default-src 'none'" in page
    assert "exit code 4 &lt;b&gt;&amp;" in page
    assert not re.search(r"(src|href)=\"https?:", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_sweep_of_which_nothing_is_judged_has_a_page(tmp_path: Path) -> None:
    path = grid_runs.write(tmp_path, grid_runs.grid(seed=(0, 1), data_size=(0,)), prompts=2)
    for run in (tmp_path / "run").iterdir():
        (run / "run.json").unlink()
    text = sweep_report(path).read_text(encoding="utf-8")
    assert "0 of 2 cells are decided." in text
    assert "No stage is finished yet." in text


@pytest.mark.slow
def test_report_of_a_sweep_writes_its_page_and_those_it_links_to(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "grid", "--root", str(sweep.parents[2])]) == 0
    assert capsys.readouterr().out == f"report: {sweep.with_name('report.html')}\n"
    text = sweep.with_name("report.html").read_text(encoding="utf-8")
    links = re.findall(r'href="(\.\.[^"]+)"', text)
    assert len(links) == 11
    assert all((sweep.parent / link).is_file() for link in links)
    first = (sweep.parent / links[0]).stat().st_mtime_ns
    assert main(["report", "grid", "--root", str(sweep.parents[2])]) == 0
    assert (sweep.parent / links[0]).stat().st_mtime_ns == first  # nothing new, nothing drawn


@pytest.mark.slow
@pytest.mark.skipif(chromium.find() is None, reason="no Chromium")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_fits_its_window_in_light_and_dark(
    sweep: Path, dark: bool, width: int, tmp_path: Path
) -> None:
    page = sweep_report(sweep)
    with chromium.tab(tmp_path / "profile") as tab:
        tab.open(page, dark=dark, width=width, ready="document.readyState === 'complete'")
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")
        assert tab.errors == []
        assert [url for url in tab.requests if not url.startswith(("file:", "about:"))] == []
