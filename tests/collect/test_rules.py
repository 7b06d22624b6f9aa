"""Which exchanges were satisfactory, and of which task they are, by the user's rules."""

import re
from pathlib import Path
from typing import Any

import pytest

from support import files
from understudy.collect import rules
from understudy.collect.collect import collect
from understudy.collect.rules import Rules
from understudy.collect.work import CollectOptions
from understudy.errors import BadInput
from understudy.records import Coverage, read_rows

ROWS: list[dict[str, Any]] = [
    {"prompt": "one", "response": "Yes.", "model": "gpt-4o-2024-08-06", "rating": 5, "tags": ["a"]},
    {"prompt": "two", "response": "No.", "model": "gpt-4o-mini", "rating": "3", "ok": "false"},
    {"prompt": "three", "response": "Yes!", "metadata": {"rating": 4.5, "task": "b"}, "ok": True},
    {"prompt": "four", "response": "I cannot.", "scores": [{"name": "rating", "value": 5}]},
    {"prompt": "five", "response": "Yes?", "rating": [1, 5], "ok": 1, "tags": ["x", "b"]},
]


def kept(tmp_path: Path, given: Rules) -> tuple[dict[str, str], dict[str, int]]:
    """The tasks of the kept prompts, and the reasons of the others."""
    log, out = files.write(tmp_path / "log.jsonl", ROWS), tmp_path / "out.jsonl"
    summary = collect([str(log)], out, CollectOptions(given))
    tasks = {row.instruction: row.task for row in read_rows(out, Coverage)}
    return tasks, dict(summary.skipped)


@pytest.mark.parametrize(
    ("given", "left", "reasons"),
    [
        (Rules(), "one two three four five", {}),
        (
            Rules(ratings=(rules.parse_rating("rating>=4"),)),
            "one three five",
            {"not rating>=4": 1, "without a number in rating": 1},
        ),
        (
            Rules(ratings=(rules.parse_rating("scores.rating == 5"),)),
            "four",
            {"without a number in scores.rating": 4},
        ),
        (Rules(flags=(rules.parse_flag("ok"),)), "three five", {"not ok": 3}),
        (Rules(flags=(rules.parse_flag("tags=b"),)), "five", {"not tags=b": 4}),
        (
            Rules(matches=(re.compile("Yes"),), rejects=(re.compile(r"\?"),)),
            "one three",
            {"a response that does not match": 2, "a response that matches what is rejected": 1},
        ),
        (
            Rules(models=("gpt-4o-2024*",)),
            "one",
            {"a model that is not on the list": 1, "without a model name": 3},
        ),
    ],
)
def test_only_what_satisfies_every_rule_is_kept_and_the_reasons_are_counted(
    given: Rules, left: str, reasons: dict[str, int], tmp_path: Path
) -> None:
    tasks, skipped = kept(tmp_path, given)
    assert list(tasks) == left.split()
    assert skipped == reasons


def test_the_task_is_that_of_the_tag_then_of_the_rule_then_the_default(tmp_path: Path) -> None:
    by_tag = Rules(
        task_field=rules.parse_task_field("tags=a|b"),
        task_rules=(rules.parse_task_rule("counting=t[wh]"),),
        task="rest",
    )
    found = {"one": "a", "two": "counting", "three": "counting", "four": "rest", "five": "b"}
    assert kept(tmp_path, by_tag)[0] == found
    by_field = Rules(task_field=rules.parse_task_field("task"))
    assert kept(tmp_path, by_field)[0]["three"] == "b"
    assert kept(tmp_path, by_field)[0]["one"] == "other"


@pytest.mark.parametrize(
    ("parse", "text", "quoted"),
    [
        (rules.parse_rating, "rating", "--rating 'rating': give FIELD>=NUMBER"),
        (rules.parse_rating, "rating>=good", "--rating 'rating>=good'"),
        (rules.parse_rating, ">=3", "--rating '>=3'"),
        (rules.parse_flag, "=x", "--flag '=x': give FIELD or FIELD=VALUE"),
        (rules.parse_task_rule, "name", "--task-rule 'name': give NAME=REGEX"),
        (rules.parse_task_rule, "name=(", "--task-rule '(' is no regular expression"),
        (rules.parse_task_field, "tags=[", "--task-from '[' is no regular expression"),
    ],
)
def test_a_rule_that_cannot_be_read_is_quoted(parse: Any, text: str, quoted: str) -> None:
    with pytest.raises(BadInput, match=re.escape(quoted)):
        parse(text)
