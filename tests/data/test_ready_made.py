"""Sets that are bought or published already: synthetic pairs, answers, and verdicts on them."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.files import evaluated, job, llamaduo, turns, write
from understudy.cli.main import main
from understudy.config import Config
from understudy.data import answers, cleaning, subset
from understudy.errors import BadInput
from understudy.evaluation import imported
from understudy.pipeline.flow import ReadyMade, flow_of
from understudy.records import Answer, Coverage, Synthetic, Verdict, read_rows
from understudy.store.artifacts import RowLog

Composed = Callable[..., Config]


# --- synthetic pairs -----------------------------------------------------------------------------


def human(at: Path, *instructions: str) -> Path:
    """A split stage whose last row is a test row."""
    at.mkdir()
    log = RowLog(at, Coverage)
    for number, text in enumerate(instructions):
        name = "test" if number == len(instructions) - 1 else "train"
        row = Coverage(str(number), "g", turns(text, "x"), "t", None, "s", name)  # type: ignore[arg-type]
        log.append([row])
    log.finish()
    return at


@pytest.fixture
def cleaned(composed: Composed, tmp_path: Path) -> Callable[..., Any]:
    """A function: rows and overrides → the job of their cleaning stage, done."""

    def make(rows: list[dict[str, Any] | str], *overrides: str) -> Any:
        path = write(tmp_path / "set.jsonl", rows)
        config = composed("synthesis=file", f"synthesis.path={path}", "data_size=1", *overrides)
        made = job(config, tmp_path / "stage", split=human(tmp_path / "split", "Seen?", "Secret?"))
        cleaning.run(made)
        return made

    return make


def pool(made: Any) -> list[Synthetic]:
    return list(read_rows(made.out / "rows.jsonl", Synthetic))


def test_a_ready_made_set_is_cleaned_and_what_is_dropped_is_counted(
    cleaned: Callable[..., Any],
) -> None:
    ours = [llamaduo(n, "gpt-4o") for n in range(4)]
    rows: list[dict[str, Any] | str] = [
        *ours,
        llamaduo(9),
        ours[0],
        *({**ours[0], "messages": turns(text, "Yes.")} for text in ("seen?", " SECRET? ")),
        '{"torn',
    ]
    made = cleaned(rows, "synthesis.tolerance=0.2")
    summary = json.loads((made.out / "summary.json").read_text())
    assert summary["rows"] == len(pool(made)) == 4
    assert summary["dropped"] == {
        **{"bad_row": 1, "duplicate_instruction": 2},
        **{"held_out_instruction": 1, "human": 1},
    }
    assert summary["contaminated"] == 1
    report = [json.loads(line) for line in (made.out / "dropped.jsonl").read_text().splitlines()]
    assert [(drop["id"], drop["reason"], drop["against"]) for drop in report] == [
        ("pair 5", "duplicate_instruction", "pair 1"),
        ("pair 6", "duplicate_instruction", "0"),
        ("pair 7", "held_out_instruction", "1"),
    ]
    assert {(r.teacher, r.split, r.depth) for r in pool(made)} == {("gpt-4o", "train", 1)}


def test_by_the_papers_rule_no_copy_of_a_ready_made_response_is_left(
    cleaned: Callable[..., Any],
) -> None:
    answers = ["The one and only answer.", "Another one.", "The one and only answer."]
    asked = ["How are you today?", "secret?", "And how is the weather?"]
    rows: list[dict[str, Any] | str] = [
        {**llamaduo(n, "gpt-4o"), "messages": turns(question, answer)}
        for n, (question, answer) in enumerate(zip(asked, answers, strict=True))
    ]
    twice = [{**rows[0], "messages": turns("How are you today?", "Fine.")}]
    made = cleaned([*rows, *twice], "synthesis.dedup.kind=paper")
    report = [json.loads(line) for line in (made.out / "dropped.jsonl").read_text().splitlines()]
    assert [(drop["id"], drop["reason"], drop["against"]) for drop in report] == [
        ("pair 1", "duplicate_response", "pair 3"),
        ("pair 2", "held_out_instruction", "1"),
        ("pair 3", "duplicate_response", "pair 1"),
    ]
    assert [row.instruction for row in pool(made)] == ["How are you today?"]


def test_a_pool_fills_blocks_in_file_order_so_sizes_nest(
    cleaned: Callable[..., Any], tmp_path: Path
) -> None:
    made = cleaned([llamaduo(n, "gpt-4o") for n in range(300)])
    rows = pool(made)
    assert [sum(r.block == b for r in rows) for b in range(3)] == [125, 125, 50]
    chosen = [{r.id for r in subset.first_by_rank(rows, size)} for size in (100, 125, 200, 300)]
    assert all(a < b for a, b in pairwise(chosen))
    assert chosen[1] == {r.id for r in rows if r.block == 0}


def test_a_set_smaller_than_the_largest_round_is_refused_before_any_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "set.jsonl", [llamaduo(n, "gpt-4o") for n in range(5)])
    root = f"paths.root={tmp_path / 'runs'}"
    assert main(["run", "synthesis=file", f"synthesis.path={path}", "data_size=6", root]) == 2
    said = capsys.readouterr().err
    assert "has 5 rows of a model, but round sizes are [6]" in said
    assert not (tmp_path / "runs").exists()


def test_no_synthetic_row_means_no_cleaning(composed: Composed, tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", [llamaduo(1, "gpt-4o")])
    both = [
        flow_of(composed("synthesis=file", f"synthesis.path={path}", f"data_size={size}")).round(0)
        for size in (0, 1)
    ]
    assert [[role for role in stages if "cleaning" in role] for stages in both] == [
        [],
        ["cleaning.0"],
    ]


# --- answers and verdicts ------------------------------------------------------------------------


def published() -> list[dict[str, Any]]:
    """Two models, two prompts, two answers each, averages of two evaluators."""
    return [
        evaluated(prompt, f"{model} says {k}", model, evaluator, 50.0 + 10 * k)
        for evaluator in ("gpt-4o", "claude")
        for model in ("gemma-2b", "llama3-8b")
        for k in range(2)
        for prompt in ("How many?", "Which one?")
    ]


@pytest.fixture
def ready(composed: Composed, tmp_path: Path) -> Callable[..., Config]:
    """A function: rows and overrides → the config of judging them."""

    def make(rows: list[dict[str, Any]], *overrides: str) -> Config:
        path = write(tmp_path / f"answers-{len(list(tmp_path.iterdir()))}.jsonl", rows)
        return composed("inference=file", f"inference.path={path}", *overrides)

    return make


def loaded(config: Config) -> answers.ReadyAnswers:
    return answers.load(config.inference, "t")


def test_published_answers_are_grouped_by_model_and_numbered_by_prompt(
    ready: Callable[..., Config],
) -> None:
    found = loaded(ready(published(), "++inference.families.gemma-2b=google"))
    assert [row.split for row in found.prompts] == ["test", "test"]
    assert {name: len(rows) for name, rows in found.answers.items()} == {
        "gemma-2b": 4,
        "llama3-8b": 4,
    }
    assert sorted(a.k for a in found.answers["gemma-2b"]) == [0, 0, 1, 1]
    assert {a.family for a in found.answers["gemma-2b"]} == {"google"}
    assert {a.family for a in found.answers["llama3-8b"]} == {"unknown"}


def test_plain_columns_do_as_well(ready: Callable[..., Config]) -> None:
    row = {"prompt": "a", "reference": "b", "candidate": "c", "generator": "g", "family": "f"}
    found = loaded(ready([row, row | {"prompt": turns("a", "b", "c")}]))
    assert [a.family for a in found.answers["g"]] == ["f", "f"]
    assert [len(p.messages) for p in found.prompts] == [2, 4]


def test_equal_answers_are_several_but_the_same_one_under_two_evaluators_is_one(
    ready: Callable[..., Config],
) -> None:
    rows = [evaluated("a", "same", "m", judge) for judge in ("x", "y") for _ in range(3)]
    found = loaded(ready(rows))
    assert [a.k for a in found.answers["m"]] == [0, 1, 2]
    assert [s.k for s in found.scores["m", "y"]] == [0, 1, 2]


def test_two_revisions_of_a_model_are_two_generators(ready: Callable[..., Config]) -> None:
    rows = [evaluated("a", "b", "m"), evaluated("a", "b", "m") | {"model_sha": "999"}]
    assert set(loaded(ready(rows)).answers) == {"m@0123abc", "m@999"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"similarity_scores": 120}, "not from 0 to 100"),
        ({"precision_scores": "high"}, "no number"),
        ({"target_responses": " "}, "empty target_responses"),
        ({"candidate_responses": None}, "no text in candidate_responses"),
        ({"model_id": None}, "no model_id"),
        ({"instructions": ""}, "no text in instructions"),
    ],
)
def test_a_bad_answer_row_is_named(
    change: dict[str, Any], words: str, ready: Callable[..., Config]
) -> None:
    with pytest.raises(BadInput, match=rf"jsonl:1 has .*{words}"):
        loaded(ready([evaluated("a", "b", "m", "x") | change]))


@pytest.mark.slow
def test_the_flow_has_a_round_per_generator_and_asks_only_our_judges(
    ready: Callable[..., Config],
) -> None:
    flow = flow_of(ready(published(), "judge=offline_panel"))
    assert isinstance(flow, ReadyMade)
    assert list(flow.shared) == ["split"]
    assert flow.generators == ["gemma-2b", "llama3-8b"]
    imported_roles = ["evaluation.gpt-4o", "evaluation.claude"]
    ours = [f"evaluation.{name}" for name in ("offline", "offline_lenient", "offline_strict")]
    for number in range(2):
        stages = flow.round(number)
        assert list(stages) == ["inference", *imported_roles, *ours, "gate"]
        assert {stages[role].name for role in imported_roles} == {"evaluation.imported"}
        assert {stages[role].name for role in ours} == {"evaluation"}


def test_an_evaluator_with_the_name_of_a_judge_stays_apart(ready: Callable[..., Config]) -> None:
    flow = flow_of(ready([evaluated("a", "b", "m", "offline")]))
    assert {"evaluation.offline (file)", "evaluation.offline"} <= flow.round(0).keys()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["baseline=offline"], "choose baseline=none"),
        (["trainer=tiny"], "choose trainer=none"),
        (["synthesis=offline"], "choose synthesis=none"),
    ],
)
def test_training_ready_made_answers_is_refused(
    overrides: list[str], words: str, ready: Callable[..., Config]
) -> None:
    with pytest.raises(BadInput, match=words):
        ready(published(), *overrides)


def test_a_gate_judge_that_nobody_is_is_told_before_anything_runs(
    ready: Callable[..., Config],
) -> None:
    with pytest.raises(BadInput, match=r"gate\.judges=\['bob'\].*claude"):
        flow_of(ready(published(), "gate.judges=[bob]"))
    with pytest.raises(BadInput, match="nobody has judged m"):
        flow_of(ready([evaluated("a", "b", "m")], "judge=none"))


def test_imported_averages_are_verdicts_without_single_judgements(
    ready: Callable[..., Config], tmp_path: Path
) -> None:
    rows = published()
    rows[0] |= {"similarity_scores": None}
    config = ready(rows, "inference.repeats=10")
    prompts, given = (job(config, tmp_path / n, {"generator": "gemma-2b"}) for n in "pa")
    answers.run_prompts(prompts)
    answers.run_answers(given)
    params = {"evaluator": "gpt-4o", "split": "test"}
    made = job(config, tmp_path / "e", params, answers=given.out, split=prompts.out)
    imported.run(made)
    verdicts = list(read_rows(made.out / "rows.jsonl", Verdict))
    assert len(verdicts) == len(list(read_rows(given.out / "rows.jsonl", Answer))) == 4
    assert {(v.judge, v.m, v.n_repeats, v.reason_precision) for v in verdicts} == {
        ("gpt-4o", None, 10, None)
    }
    assert sorted(v.status for v in verdicts) == ["not_in_file", "scored", "scored", "scored"]
    summary = json.loads((made.out / "summary.json").read_text())
    assert summary["m"] is None
    assert summary["unscored"] == {"not_in_file": 1}
    assert summary["precision"]["mean"] == pytest.approx((60 + (50 + 60) / 2) / 2)


@pytest.mark.slow
def test_published_evaluations_go_through_three_judges_into_the_report(
    ready: Callable[..., Config], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = ready(published()).inference.path
    root = f"paths.root={tmp_path / 'runs'}"
    command = ["run", "inference=file", f"inference.path={path}", "judge=offline_panel", root]
    assert main([*command, "evaluation.m=2", "run.name=ready"]) == 0
    first = capfd.readouterr()
    assert "ready-made answers of llama3-8b" in first.out
    assert "0 of 2 generators reach the thresholds" in first.out
    assert main([*command, "evaluation.m=2", "run.name=ready"]) == 0
    assert "stages run: 0" in capfd.readouterr().out
    assert main(["status", "ready", "--root", str(tmp_path / "runs")]) == 0
    assert main(["report", "ready", "--root", str(tmp_path / "runs")]) == 0
    page = (tmp_path / "runs/rehearsal/run/ready/report.html").read_text()
    for word in ("gemma-2b", "llama3-8b", "gpt-4o", "claude", "offline_strict", "Ready-made"):
        assert word in page
    kinds = {p.parent.name for p in (tmp_path / "runs/rehearsal").glob("*/*")}
    assert kinds == {"split", "inference", "evaluation", "gate", "run"}


@pytest.mark.slow
def test_imported_verdicts_alone_are_no_rehearsal(
    ready: Callable[..., Config], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = ready(published()).inference.path
    command = ["run", "inference=file", f"inference.path={path}", "judge=none", "run.name=ready"]
    assert main([*command, f"paths.root={tmp_path / 'runs'}", "gate.similarity=52"]) == 0
    assert "0 of 2" in capfd.readouterr().out
    run = json.loads((tmp_path / "runs/run/ready/run.json").read_text())
    assert run["rehearsal"] is False
    assert [(e["data_size"], e["decision"]) for e in run["rounds"]] == [(None, "fail")] * 2


# --- conversations -------------------------------------------------------------------------------


def shadows(path: Path, conversations: int, turns: int, **named: str) -> Path:
    """Shadow rows of conversations; each turn's prompt holds the turns before it."""
    rows: list[dict[str, Any] | str] = []
    for number in range(conversations):
        prompt: list[dict[str, str]] = []
        for turn in range(turns):
            prompt = [*prompt, {"role": "user", "content": f"question {turn} of {number}?"}]
            group = {name: value.format(number) for name, value in named.items()}
            texts = {"reference": "yes", "candidate": "no", "generator": "small"}
            rows.append({"prompt": prompt} | texts | group)
            prompt = [*prompt, {"role": "assistant", "content": f"answer {turn}"}]
    return write(path, rows)


def test_the_turns_of_a_conversation_are_one_cluster(composed: Composed, tmp_path: Path) -> None:
    path = shadows(tmp_path / "shadow.jsonl", conversations=3, turns=20)
    ready = answers.load(composed("inference=file", f"inference.path={path}").inference, "t")
    assert len(ready.prompts) == 60
    assert len({row.group_id for row in ready.prompts}) == 3
    assert len({answer.group_id for answer in ready.answers["small"]}) == 3


@pytest.mark.parametrize("column", ["group_id", "conversation_id", "user_id"])
def test_a_column_says_whose_a_prompt_is(composed: Composed, tmp_path: Path, column: str) -> None:
    path = shadows(tmp_path / "shadow.jsonl", 6, 2, **{column: "the same"})
    ready = answers.load(composed("inference=file", f"inference.path={path}").inference, "t")
    assert len({row.group_id for row in ready.prompts}) == 1


QUESTION = "What is the capital of {} in the year 1900, and how many people lived there then?"


def asked(path: Path, *rows: dict[str, Any]) -> Path:
    texts = {"reference": "r", "candidate": "c", "generator": "small"}
    lines: list[dict[str, Any] | str] = [texts | row for row in rows]
    return write(path, lines)


def groups_of(composed: Composed, path: Path) -> list[str]:
    config = composed("inference=file", f"inference.path={path}")
    return [row.group_id for row in answers.load(config.inference, "t").prompts]


@pytest.mark.slow
def test_near_duplicate_prompts_are_one_cluster_where_nobody_says_whose_they_are(
    composed: Composed, tmp_path: Path
) -> None:
    prompts = [QUESTION.format("France"), QUESTION.format("France") + " Please.", "Who was Kant?"]
    rows = [{"prompt": prompt} for prompt in prompts]
    found = groups_of(composed, asked(tmp_path / "plain.jsonl", *rows))
    assert found[0] == found[1] != found[2]
    began = [row | {"group_id": f"g{n}", "group_of": "start"} for n, row in enumerate(rows)]
    found = groups_of(composed, asked(tmp_path / "start.jsonl", *began))
    assert found[0] == found[1] != found[2]
    named = [row | {"group_id": f"g{n}", "group_of": "user"} for n, row in enumerate(rows)]
    assert len(set(groups_of(composed, asked(tmp_path / "users.jsonl", *named)))) == 3
