"""Graders on real workloads: the reference is right, another row's is not, noise is no score."""

import gzip
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.files import REAL, needs_real_data
from understudy.config import grader as settings
from understudy.evaluation import graders
from understudy.evaluation.graders import Case, Graded, Outcome, Ungraded
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage

pytestmark = needs_real_data
WORKLOADS = Path(REAL or ".") / "workloads"
SPACE, SIGNS = ["space"], ["case", "space", "punctuation"]
CONFIGS: dict[str, settings.Grader] = {
    "exact": settings.Exact("exact", SPACE),
    "label": settings.Label("label", None, {}),
    "contains": settings.Contains("contains", SPACE),
    "number": settings.Number("number", 0, 1e-6, "point", {}),
    "json": settings.Json("json", [], "any_order", False, None),
    "tool_calls": settings.ToolCalls("tool_calls", SIGNS),
    "text_overlap": settings.TextOverlap("text_overlap", "token_f1", "rouge_l"),
}
KINDS = {
    **{"banking77": "label", "support_tickets": "label", "slots_json": "json"},
    **{"pii_spans_json": "json", "json_mode_teacher": "json", "gsm8k": "number"},
    **{"self_instruct_seeds": "text_overlap", "bfcl_tool_calls": "tool_calls"},
}
EXPECTED = {"accepted", "tools", "test", "entry_point"}


def cases(name: str) -> list[tuple[Case, str]]:
    """The rows of a workload, each graded against itself, with its split."""
    with gzip.open(WORKLOADS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = []
    for row in rows:
        turns = row.get("messages") or [{"role": "user", "content": row["prompt"]}]
        expected = {key: row[key] for key in EXPECTED & row.keys()}
        found.append((Case(turns, row["response"], expected, row["response"]), row["split"]))
    return found


def rule_for(name: str, kind: str, sandbox: Sandbox | None = None) -> graders.Rule:
    train = [
        Coverage(str(n), str(n), [*case.prompt, {"role": "assistant", "content": case.reference}],
                 name, None, "file", "train")
        for n, (case, split) in enumerate(cases(name)) if split == "train"
    ]  # fmt: skip
    return graders.made(CONFIGS[kind], train, sandbox or Sandbox())


def is_right(outcome: Outcome) -> bool:
    return isinstance(outcome, Graded) and outcome.precision == 100


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_reference_is_right_and_another_row_s_is_not(name: str, kind: str) -> None:
    rule, rows = rule_for(name, kind), [case for case, _ in cases(name)][:3000]
    assert [case.reference for case in rows if not is_right(rule(case))] == []
    others = random.Random(0).sample(rows, len(rows))
    wrong = [
        case._replace(answer=other.reference)
        for case, other in zip(rows, others, strict=True)
        if case.reference != other.reference
    ]
    believed = [case for case in wrong if is_right(rule(case))]
    if kind == "number":  # two problems may have one number
        believed = [c for c in believed if _number(c.answer) != _number(c.reference)]
    assert believed == []


def _number(text: str) -> str:
    return text.rpartition("####")[2].strip().replace(",", "")


@pytest.mark.slow
def test_every_accepted_alternative_of_bfcl_is_right_and_a_planted_error_is_not() -> None:
    rule, draw = rule_for("bfcl_tool_calls", "tool_calls"), random.Random(0)
    seen = Counter[str]()
    for case, _ in cases("bfcl_tool_calls"):
        calls = [
            {"name": name, "arguments": _drawn(arguments, draw)}
            for one in case.expected["accepted"]
            for name, arguments in one.items()
        ]
        draw.shuffle(calls)
        assert is_right(rule(case._replace(answer=json.dumps(calls)))), calls
        seen["right"] += 1
        for spoilt in _spoilt(calls):
            assert not is_right(rule(case._replace(answer=json.dumps(spoilt)))), spoilt
            seen["wrong"] += 1
    assert seen["right"] == 1538
    assert seen["wrong"] > 5000


def _drawn(arguments: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Arguments that are accepted; optional ones are there or not."""
    found = {}
    for name, values in arguments.items():
        choice = draw.choice(values or [[]])
        if choice != "":
            found[name] = _inner(choice, draw)
        elif values == [""]:
            continue
    return found


def _inner(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict):
        return _drawn(value, draw) if all(isinstance(v, list) for v in value.values()) else value
    return [_inner(one, draw) for one in value] if isinstance(value, list) else value


def _spoilt(calls: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The same calls with one error each."""
    if not calls:
        yield [{"name": "surprise", "arguments": {}}]
        return
    first, *rest = calls
    yield rest
    yield [*calls, first]
    yield [{**first, "name": first["name"] + "_other"}, *rest]
    yield [{**first, "arguments": {**first["arguments"], "zz_unknown": 1}}, *rest]
    for name in list(first["arguments"])[:1]:
        yield [{**first, "arguments": {**first["arguments"], name: "qqq-wrong-qqq"}}, *rest]


@pytest.mark.slow
def test_code_and_sql_are_graded_by_running_them() -> None:
    with Sandbox(2) as sandbox:
        config: settings.Grader = settings.Code("code", 5, 512)
        rule = graders.made(config, [], sandbox)
        rows = [case for case, _ in cases("humaneval")]
        assert [case for case in rows if not is_right(rule(case))] == []
        for case in rows[:40]:
            assert not is_right(rule(case._replace(answer="    return None\n")))
        config = settings.Sql("sql", 5, 512, str(WORKLOADS / "geography.sqlite"))
        rule = graders.made(config, [], sandbox)
        rows = [case for case, _ in cases("geography_sql")]
        outcomes = [rule(case) for case in rows]
        unscored = [one.status for one in outcomes if isinstance(one, Ungraded)]
        assert unscored == ["no_reference"]  # the one query that does not execute
        assert sum(map(is_right, outcomes)) == len(rows) - 1
        empty = "SELECT 'nowhere', 'nothing'"
        assert not any(is_right(rule(case._replace(answer=empty))) for case in rows[:40])


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_noise_is_no_score_and_no_traceback(kind: str) -> None:
    names = {k: n for n, k in KINDS.items()} | {"exact": "banking77", "contains": "banking77"}
    rule, rows = rule_for(names[kind], kind), [case for case, _ in cases(names[kind])]
    draw = random.Random(1)
    many = int(os.environ.get("UNDERSTUDY_FUZZ", 200))
    for _ in range(many):
        case = draw.choice(rows)
        outcome = rule(case._replace(answer=_noise(case.reference, draw)))
        assert isinstance(outcome, Graded), outcome
        assert 0 <= outcome.precision <= 100
        junk = rule(case._replace(answer=_junk(draw)))
        assert isinstance(junk, Graded), junk
        # Where no call is due, none in junk is right.
        is_due = case.expected.get("accepted") != []
        assert junk.precision == 0 or (kind == "tool_calls" and not is_due), junk


_SIGNS = "{}[]()<>\"'`\\/#,:;.=+-*%$&|~^\u2028\u0000\ud83d\u202e\u00ad"


def _junk(draw: random.Random) -> str:
    """Signs that say nothing, also very many or deeply nested."""
    depth = draw.choice([3, 50, 2000])
    return draw.choice(
        [
            "".join(draw.choices(_SIGNS, k=draw.randint(0, 300))),
            "[" * depth, "{" * depth, "(" * depth, '{"§":' * depth, "```" * depth, "\\" * depth,
            "<tool_call>" * 3, "\n" * depth, "", "####", "\\boxed{", "```json\n",
        ]
    )  # fmt: skip


def _noise(text: str, draw: random.Random) -> str:
    """A text that is cut, doubled, shuffled or has other signs in it."""
    if not text:
        return _junk(draw)
    place = draw.randrange(len(text))
    return draw.choice(
        [
            text[:place], text[place:], text * 2, text[::-1],
            _junk(draw) + text, text + _junk(draw),
            text[:place] + draw.choice(_SIGNS) + text[place:], re.sub(r"\d", "9" * 400, text),
            text.replace('"', "'"), text.upper(),
        ]
    )  # fmt: skip
