"""Every experiment and sweep: composed, validated, planned; and the scripts that start them."""

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.files import REAL, needs_real_data
from understudy import config, locations
from understudy.config import compose
from understudy.data import coverage
from understudy.errors import BadInput
from understudy.evaluation import graders, grading
from understudy.pipeline import flow
from understudy.playground.sandbox import Sandbox
from understudy.records import Answer
from understudy.sweep import cells as sweep_cells
from understudy.sweep.cells import Cells

ROOT = Path(__file__).parents[2]
CONF = locations.shared("conf")
CLAIMS = ("main_table", "data_scaling", "model_family", "judge_agreement", "full_grid")
# Rehearsed: two of the paper's services are withdrawn, which stops a real run at second 0.
REHEARSED = "rehearsal.url=http://127.0.0.1:9"
TODAY = "claude_sonnet_5_5"


def experiments() -> list[str]:
    paths = sorted((CONF / "experiment").rglob("*.yaml"))
    names = [path.relative_to(CONF / "experiment").with_suffix("").as_posix() for path in paths]
    # test_routing_study.py, and below: these need files of the user's
    return [name for name in names if not name.startswith(("routing/", "workloads/"))]


@cache
def expand(*overrides: str) -> Cells:
    return sweep_cells.expand(compose.grid(list(overrides), None), compose.Composer(None))


def stages(cells: Cells) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for cell in cells.cells:
        one = flow.flow_of(cell.config)
        plans = [one.shared, *(one.round(number) for number in range(len(one.sizes)))]
        for stage in (stage for plan in plans for stage in plan.values()):
            found.setdefault(stage.name, set()).add(stage.path)
    return found


def expected(claim: str) -> dict[str, Any]:
    text = (ROOT / "experiments" / claim / "expected.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments())
def test_every_experiment_composes_and_is_valid_in_every_cell(name: str) -> None:
    given = [f"experiment={name}", REHEARSED]
    if compose.grid(given, None).axes:
        assert expand(*given).cells
    else:
        config.build(compose.compose(given, None))


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_s_sweep_has_the_stages_that_are_expected(claim: str) -> None:
    group = "sweep=full_grid" if claim == "full_grid" else f"experiment=paper/{claim}"
    cells, wanted = expand(group, REHEARSED), expected(claim)["stages"]
    found = stages(cells)
    assert len(cells.cells) == wanted["cells"]
    assert {name: len(found[name]) for name in wanted if name != "cells"} == {
        name: count for name, count in wanted.items() if name != "cells"
    }


@pytest.mark.slow
def test_an_experiment_s_axes_are_its_own_and_the_command_line_replaces_them() -> None:
    given = ["experiment=paper/main_table", REHEARSED, "model=gemma_2b", "task=coding,closed_qa"]
    cells = expand(*given, f"service@baseline.service={TODAY}")
    assert cells.name.startswith("paper-main_table-")
    assert [cell.label for cell in cells.cells] == ["coding", "closed_qa"]
    assert [cell.config.data_size for cell in cells.cells] == [100_000, 111_000]
    assert {cell.config.model.name for cell in cells.cells} == {"gemma_2b"}


@pytest.mark.slow
def test_experiments_with_axes_of_their_own_cannot_be_an_axis() -> None:
    with pytest.raises(BadInput, match="experiment=paper/main_table has axes of its own"):
        compose.grid(["experiment=demo,paper/main_table"], None)
    assert compose.grid(["experiment=demo,curve"], None).axes == {"experiment"}


def test_a_task_without_a_value_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="task=memos has no value here; those that have are summ"):
        compose.compose(["model=gemma_7b", "trainer=paper_gemma_7b", "task.name=memos"], None)


@pytest.mark.slow
def test_judge_agreement_trains_nothing_that_main_table_does_not() -> None:
    mine = stages(expand("experiment=paper/judge_agreement", REHEARSED))
    assert mine["finetune"] <= stages(expand("experiment=paper/main_table", REHEARSED))["finetune"]


WORKLOADS = {  # experiment -> its file, and what else it needs
    **{name: (f"{name}.jsonl.gz", []) for name in ("banking77", "support_tickets", "slots_json")},
    "gsm8k": ("gsm8k.jsonl.gz", []),
    "tool_calls": ("bfcl_tool_calls.jsonl.gz", []),
    "code": ("humaneval.jsonl.gz", []),
    "sql": ("geography_sql.jsonl.gz", ["graders.sql.database={}/geography.sqlite"]),
}


def test_every_workload_has_a_line_here() -> None:
    assert {path.stem for path in (CONF / "experiment" / "workloads").glob("*.yaml")} == {
        *WORKLOADS
    }


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_composes_on_its_file_and_splits_it(name: str) -> None:
    folder, (file, more) = f"{REAL}/workloads", WORKLOADS[name]
    given = [f"experiment=workloads/{name}", f"coverage.path={folder}/{file}"]
    of = config.build(compose.compose([*given, *(one.format(folder) for one in more)], None))
    (judge,) = of.graders
    stage = flow.flow_of(of).round(0)[f"evaluation.{judge}"]
    assert stage.name == "evaluation.grader"
    found = coverage.find(of.coverage, of.task.name)
    assert len(found.pairs) > 100
    assert not found.bad
    named = set(of.coverage.expected)
    assert all((pair.expected or {}).keys() == named for pair in found.pairs)


@pytest.mark.slow
@needs_real_data
def test_the_rows_of_bfcl_hold_calls_that_the_grader_takes() -> None:
    path = f"{REAL}/workloads/{WORKLOADS['tool_calls'][0]}"
    given = ["experiment=workloads/tool_calls", f"coverage.path={path}"]
    of = config.build(compose.compose(given, None))
    rows = coverage._rows(coverage.find(of.coverage, "t").pairs, of.coverage, "t")
    calling = {row.id for row in rows if row.messages[-1].get("tool_calls")}
    assert (len(rows), len(calling)) == (1538, 1298)  # the others want none, and say []
    assert {row.response for row in rows if row.id not in calling} == {"[]"}
    assert all(row.tools for row in rows)
    assert sum(row.messages[0]["role"] == "system" for row in rows) == 12
    with Sandbox(1) as sandbox:
        rule = graders.made(of.graders["tool_calls"], rows, sandbox)
        for row in rows:
            for calls in (row.messages[-1].get("tool_calls"), None):
                answer = Answer(row.id, "g", 0, "", 1, "stop", "m", "f", tool_calls=calls)
                graded = rule(grading._item(row, answer))
                assert isinstance(graded, graders.Graded)
                assert graded.precision == (100 if calls or row.id not in calling else 0)


def test_conf_has_at_most_137_files_and_no_two_with_equal_content() -> None:
    paths = sorted(CONF.rglob("*.yaml"))
    assert len(paths) <= 137  # the last is of conf/watch, a verb of its own
    seen: dict[str, Path] = {}
    for path in paths:
        if path.is_relative_to(CONF / "local"):
            continue
        content = json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), sort_keys=True)
        assert seen.setdefault(f"{path.parent.name}: {content}", path) == path, content
    assert len(set(map(Path.read_text, paths))) == len(paths)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_s_published_values_are_referred_to_and_have_sources(claim: str) -> None:
    facts = expected(claim)
    assert all(said["says"] and said["source"] for said in facts["claims"])
    if facts["published"] is None:
        assert facts["note"]
        return
    with (ROOT / facts["published"]["file"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = [row for row in rows if facts["published"]["where"].items() <= row.items()]
    assert any(row["value"] for row in known)
    assert all(row["source"] for row in known if row["value"])


@pytest.fixture(scope="module")
def no_robots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set on this disk with the columns, categories and parts of the real one."""
    root = tmp_path_factory.mktemp("no_robots")
    for part, count in (("train", 40), ("test", 16)):
        rows = []
        for number in range(count):
            prompt = f"{part} question {number}: " + " ".join(f"w{number}x{n}" for n in range(12))
            said = [("user", prompt), ("assistant", f"answer {number} of {part}")]
            kind = ("Summarize", "Classify", "Coding", "Closed QA")[number % 4]
            messages = [{"role": role, "content": text} for role, text in said]
            row = {"prompt": prompt, "prompt_id": f"{part}{number}", "category": kind}
            rows.append(json.dumps(row | {"messages": messages}))
        (root / f"{part}.jsonl").write_text("\n".join(rows))
    return root


NARROW = {
    "main_table": ["model=gemma_2b", "task=coding", f"service@baseline.service={TODAY}"],
    "data_scaling": ["model=gemma_7b", "data_size=1k,32k", f"service@synthesis.service={TODAY}"],
    "model_family": ["model=llama3_2_1b", "task=coding", f"service@baseline.service={TODAY}"],
    "judge_agreement": ["model=gemma_2b"],
    "full_grid": ["model=gemma_2b", "task=coding", "data_size=1k"],
}
FINETUNED = {claim: 2 if claim == "data_scaling" else 1 for claim in CLAIMS}


def dry_run(claim: str, root: Path, data: Path, *more: str) -> dict[str, Any]:
    """What the claim's script would do, beside a path with spaces."""
    own = [] if claim == "full_grid" else [f"coverage.repo={data}", "coverage.revision=null"]
    script = ROOT / "experiments" / claim / "run.sh"
    command = [str(script), "plan", *own, f"paths.root={root}", *more, "--json"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert not root.exists()
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS)
def test_every_run_sh_dry_runs(claim: str, tmp_path: Path, no_robots: Path) -> None:
    plan = dry_run(claim, tmp_path / "my runs", no_robots, *NARROW[claim])
    names = [stage["stage"].partition("/")[0] for stage in plan["stages"]]
    assert names.count("finetune") == FINETUNED[claim]


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS)
def test_every_run_sh_dry_runs_whole(claim: str, tmp_path: Path, no_robots: Path) -> None:
    plan = dry_run(claim, tmp_path / "my runs", no_robots)
    names = [stage["stage"].partition("/")[0] for stage in plan["stages"]]
    wanted = expected(claim)["stages"]
    assert plan["cells"] == wanted["cells"]
    assert names.count("finetune") == wanted["finetune"]
    assert plan["rehearsal"] == (claim == "full_grid")


@pytest.mark.slow
def test_the_papers_experiments_alone_leave_out_whatever_is_unscored() -> None:
    def most(*overrides: str) -> float:
        return config.build(compose.compose(list(overrides), None)).gate.max_unscored

    assert (most(), most("gate=paper"), most("gate=noninferiority")) == (0.02,) * 3
    paper = ["experiment=paper/judge_agreement", "model=gemma_2b", REHEARSED]
    assert most(*paper) == 1
