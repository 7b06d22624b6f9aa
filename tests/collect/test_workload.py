"""What `init` takes a file's answers for, and which grader it proposes."""

import gzip
import json
import sqlite3
from pathlib import Path

import pytest

from support.files import REAL, needs_real_data
from understudy.cli.main import main
from understudy.collect.workload import ProposedGrader, propose_grader
from understudy.config import build
from understudy.config.compose import compose


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["refund", "card_arrival", "top_up"] * 20, "label"),
        ([f"It is fine, thank you, number {n} of them." for n in range(60)], None),
        (['{"a": 1}', "[]", "```json\n{}\n```"] * 20, "json"),
        (['[{"name": "f", "arguments": {"a": 1}}]', "[f(a=1)]"] * 20, "tool_calls"),
        (["SELECT a FROM t", "with c as (select 1) select * from c"] * 20, "sql"),
        (["So it is 3.\n#### 3", "$1,234.50", "-7"] * 20, "number"),
        (["refund"] * 10, None),  # too few rows to show anything
        (["refund"] * 60, None),  # one answer is no choice
        (["{not JSON", "[nor this"] * 6 + [f"text {n}" for n in range(60)], None),
    ],
)
def test_the_answers_show_which_rule_fits(answers: list[str], kind: str | None) -> None:
    found = propose_grader(answers, ["prompt", "response"])
    assert (found and found.kind) == kind


def test_columns_that_the_grader_reads_are_proposed_with_it() -> None:
    code = propose_grader([f"def f{n}(): pass" for n in range(30)], ["test", "entry_point"])
    assert code is not None
    assert code.kind == "code"
    assert code.expected == {"test": "test", "entry_point": "entry_point"}
    calls = propose_grader(["f(a=1)"] * 30, ["tools", "accepted"])
    assert calls is not None
    assert calls.expected == {"accepted": "accepted", "tools": "tools"}


def test_queries_are_graded_where_the_only_database_lies_beside_them(tmp_path: Path) -> None:
    def proposed() -> ProposedGrader:
        found = propose_grader(["SELECT a FROM b"] * 30, [], tmp_path)
        assert found is not None
        return found

    assert (proposed().kind, proposed().is_complete) == ("sql", False)
    (tmp_path / "notes.db").write_text("no database")
    first = tmp_path / "geography.sqlite"
    with sqlite3.connect(first) as database:
        database.execute("create table b (a int)")
    assert (proposed().database, proposed().is_complete) == (first, True)
    (tmp_path / "other.db").write_bytes(first.read_bytes())  # which of the two, nobody knows
    assert not proposed().is_complete


@needs_real_data
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("banking77", "label"), ("support_tickets", "label"), ("slots_json", "json")),
        *(("pii_spans_json", "json"), ("json_mode_teacher", "json"), ("gsm8k", "number")),
        *(("bfcl_tool_calls", "tool_calls"), ("geography_sql", "sql"), ("humaneval", "code")),
        ("self_instruct_seeds", None),
    ],
)
def test_real_workloads_are_recognised(name: str, kind: str | None) -> None:
    with gzip.open(f"{REAL}/workloads/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = propose_grader([row["response"] for row in rows], list(rows[0]))
    assert (found and found.kind) == kind


@pytest.mark.slow
def test_init_writes_the_grader_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "mail.jsonl", tmp_path / "conf"
    rows = [{"prompt": f"mail {n} of somebody", "response": "spam" if n % 3 else "ham"}
            for n in range(60)]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["init", str(file), "--out", str(out)]) == 0
    assert "judge=label, since 60 rows have 2 different answers" in " ".join(
        capsys.readouterr().out.split()
    )
    of = build(compose(["experiment=mail"], str(out)))
    assert of.gate_judges == ["label"]
