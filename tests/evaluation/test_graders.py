"""Graders: a rule scores what it can read, and says of the rest why it has no score."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.config import grader as settings
from understudy.errors import BadInput
from understudy.evaluation import graders
from understudy.evaluation.graders import Case, Graded, Outcome, Ungraded
from understudy.evaluation.grading import confusion
from understudy.playground.sandbox import Sandbox
from understudy.prompts.calls import Call, read_calls
from understudy.records import Coverage

Score = Callable[..., Outcome]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as ours:
        yield ours


def grade_of(config: settings.Grader, *train: str, sandbox: Sandbox | None = None) -> Score:
    rows = [row(text) for text in train]
    rule = graders.made(config, rows, sandbox or Sandbox())

    def score(reference: str, answer: str, prompt: str = "?", **expected: Any) -> Outcome:
        return rule(Case([{"role": "user", "content": prompt}], reference, expected, answer))

    return score


def row(response: str) -> Coverage:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": response}]
    return Coverage("1", "1", messages, "task", None, "file", "train")


def points(outcome: Outcome) -> float:
    assert isinstance(outcome, Graded), outcome
    return outcome.precision


def status(outcome: Outcome) -> str:
    assert isinstance(outcome, Ungraded), outcome
    return outcome.status


def test_exact_ignores_what_it_is_told_to() -> None:
    score = grade_of(settings.Exact("exact", ["case", "space", "punctuation"]))
    strict = grade_of(settings.Exact("exact", []))
    assert points(score("Card arrival.", "  card\n arrival")) == 100
    assert points(score("Card arrival", "card arrived")) == 0
    assert points(score("+", "-")) == 0
    assert points(strict("a b", "a  b")) == 0
    assert points(strict("caf\u00e9", "cafe\u0301 ")) == 100


def test_a_label_is_read_out_of_a_sentence_if_it_is_the_only_one() -> None:
    config = settings.Label("label", None, {"money back": "refund"})
    score = grade_of(config, "refund", "refund_not_showing_up", "card_arrival")
    for answer in ("refund", "Refund.", "Label: refund", "**refund**\nbecause …", "money back"):
        assert points(score("refund", answer)) == 100, answer
    for answer in (
        "card_arrival",
        "refund or card_arrival",
        "refunds",
        "",
        "refund not showing up",
    ):
        assert points(score("refund", answer)) == 0, answer
    assert points(score("refund_not_showing_up", "It is refund_not_showing_up, I think")) == 100
    assert points(score("never_seen", "never seen")) == 100
    assert points(score("never_seen", "refund")) == 0
    assert status(score(" ", "refund")) == "no_reference"


def test_labels_that_are_no_closed_set_or_an_alias_of_none_are_refused() -> None:
    with pytest.raises(BadInput, match="1001 different answers, which is no closed set"):
        grade_of(settings.Label("label", None, {}), *(f"answer {n}" for n in range(1001)))
    with pytest.raises(BadInput, match="there is no label b"):
        grade_of(settings.Label("label", ["a"], {"x": "b"}))
    with pytest.raises(BadInput, match="learns its labels from train rows"):
        grade_of(settings.Label("label", None, {}))


def test_the_confusion_table_counts_wanted_and_given_labels() -> None:
    score = grade_of(settings.Label("label", ["a", "b"], {}))
    found = confusion([score(*pair) for pair in (("a", "a"), ("a", "b"), ("b", "b"), ("b", "?"))])
    assert found is not None
    assert found["pairs"] == [["a", "a", 1], ["a", "b", 1], ["b", "b", 1], ["b", None, 1]]
    assert found["macro_f1"] == pytest.approx((200 / 3 + 50) / 2, abs=1e-4)  # 2/3 and 2/4


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ("48/2 = <<48/2=24>>24 clips\n#### 72", "So she sold 72 clips in 2 months.\n#### 72", 100),
        ("#### 72", "The answer is **72.00**.", 100),
        ("#### 72", "72 of 73", 0),
        ("1234.5", "It costs $1,234.50", 100),
        ("1234.5", "1'234.5", 100),
        ("-5", "minus? it is \u22125 \u00b0C", 100),
        ("5", "between 3-5", 100),
        ("0.75", "so \\boxed{\\frac{3}{4}} in all 4", 100),
        ("200000000", "2 x 10^8", 100),
        ("100000", "1e5", 100),
        ("3.14159265", "3.1415927", 100),
        ("3.14159265", "3.1415", 0),
        ("12345678901234567890123", "12345678901234567890123", 100),
        ("1", "no number at all", 0),
        ("1", "", 0),
        ("1", "9" * 5000, 0),
        ("1", "1e999999999999", 0),
    ],
)
def test_the_final_number_counts(reference: str, answer: str, wanted: float) -> None:
    score = grade_of(settings.Number("number", 0, 1e-6, "point", {}))
    assert points(score(reference, answer)) == wanted


def test_numbers_have_units_tolerances_and_commas() -> None:
    units = grade_of(settings.Number("number", 0, 1e-6, "point", {"km": 1000, "m": 1}))
    assert points(units("2 km", "2000 m")) == 100
    assert points(units("2 km", "2")) == 100
    assert points(units("2 km", "2 m")) == 0
    comma = grade_of(settings.Number("number", 0.5, 0, "comma", {}))
    assert points(comma("1.234,5", "1234,9")) == 100
    assert points(comma("1.234,5", "1235,1")) == 0
    assert status(comma("none", "1")) == "no_reference"


def test_contains_and_regex() -> None:
    contains = grade_of(settings.Contains("contains", ["case", "space"]))
    assert points(contains("New  York", "in new york, I think")) == 100
    assert points(contains("x", "say A and b", contains=["a", "B"])) == 100
    assert points(contains("x", "say A", contains=["a", "b"])) == 0
    assert status(contains("  ", "anything")) == "no_reference"
    regex = grade_of(settings.Regex("regex", None, 0.1))
    assert points(regex(r"^\d{4}-\d\d$", "2024-05")) == 100
    assert points(regex(r"^\d{4}-\d\d$", "May 2024")) == 0
    assert status(regex("(", "(")) == "no_reference"
    assert status(regex(r"(a|aa)+$", "a" * 60 + "b")) == "timeout"
    choice = grade_of(settings.Regex("regex", r"answer is \(?([A-D])\b", 1))
    assert points(choice("The answer is (B)", "I'd say the answer is B.")) == 100
    assert points(choice("B", "I'd say the answer is C.")) == 0
    with pytest.raises(BadInput, match="is no regular expression"):
        grade_of(settings.Regex("regex", "(", 1))


JSON = settings.Json("json", [], "any_order", False, None)


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1.0}, 100),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, 50),
        ({"a": 1}, {"a": True}, 0),
        ({"a": 1}, {"a": "1"}, 0),
        ({"a": 1}, {"a": 1, "b": 2}, 200 / 3),
        ({}, {}, 100),
        ({}, {"a": 1}, 0),
        ({"a": None}, {}, 0),
        ([1, 2, 3], [3, 2, 1], 100),
        ([1, 1, 2], [1, 2, 2], 200 * 2 / 6),
        ([{"n": 1, "v": "x"}, {"n": 2, "v": "y"}], [{"n": 2, "v": "y"}, {"n": 1, "v": "z"}], 75),
        ([["EMAIL", "a@b"], ["NAME", "Al"]], [["NAME", "Al"], ["EMAIL", "a@b"]], 100),
        ([["EMAIL", "a@b"], ["NAME", "Al"]], [["Al", "NAME"], ["EMAIL", "a@b"]], 50),
    ],
)
def test_json_is_compared_field_by_field(reference: Any, answer: Any, wanted: float) -> None:
    outcome = grade_of(JSON)(json.dumps(reference), json.dumps(answer))
    assert points(outcome) == pytest.approx(wanted)
    whole = grade_of(settings.Json("json", [], "any_order", True, None))
    assert points(whole(json.dumps(reference), json.dumps(answer))) == (100 if wanted == 100 else 0)


@pytest.mark.parametrize(
    "answer", ["", "{", "NaN", '{"a": NaN}', "[" * 100_000, '{"a": 1} and more', "'a'", "9" * 9999]
)
def test_what_is_no_json_is_wrong(answer: str) -> None:
    assert points(grade_of(JSON)('{"a": 1}', answer)) == 0


def test_json_may_stand_in_a_fence_and_lists_may_count_in_order() -> None:
    assert points(grade_of(JSON)('{"a": 1}', 'Sure:\n```json\n{"a": 1}\n```')) == 100
    assert status(grade_of(JSON)("no JSON", "{}")) == "no_reference"
    ordered = grade_of(settings.Json("json", [], "in_order", False, None))
    assert points(ordered("[1, 2]", "[2, 1]")) == 0


def test_json_meets_a_schema(tmp_path: Path) -> None:
    pytest.importorskip("jsonschema")
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object", "required": ["a"]}')
    score = grade_of(settings.Json("json", [], "any_order", False, str(file)))
    assert points(score('{"a": 1}', '{"a": 1}')) == 100
    outcome = score('{"a": 1}', '{"b": 1}')
    assert points(outcome) == 0
    assert isinstance(outcome, Graded)
    assert "'a' is a required property" in str(outcome.reason)


F = Call("f", {"a": 1, "b": "x"})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"name": "f", "arguments": {"a": 1, "b": "x"}}', [F]),
        ('[{"name": "f", "parameters": {"a": 1, "b": "x"}}]', [F]),
        ('{"function": {"name": "f", "arguments": "{\\"a\\": 1, \\"b\\": \\"x\\"}"}}', [F]),
        ('{"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": "x"}}}]}', [F]),
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": "x"}}\n</tool_call>' * 2, [F, F]),
        ('Right away. [TOOL_CALLS] [{"name": "f", "arguments": {"a": 1, "b": "x"}}]', [F]),
        ('<function=f>{"a": 1, "b": "x"}</function>', [F]),
        ('<|python_tag|>f(a=1, b="x")', [F]),
        ('[f(a=1, b="x"), g.h(c=[True, {}])]', [F, Call("g.h", {"c": [True, {}]})]),
        ('```tool_code\nprint(f(a=1, b="x"))\n```', [F]),
        ('f(1, "x")', [Call("f", {"0": 1, "1": "x"})]),
        ('{"f": {"a": 1, "b": "x"}}', [F]),
        ('I would call {"name": "f", "arguments": {"a": 1, "b": "x"}} here', [F]),
        ("I need no tool (none fits).", []),
        ("[]", []),
        ('{"answer": 42}', []),
        ("import os\nos.remove('x')", []),
        ("[" * 5000, []),
    ],
)  # fmt: skip
def test_calls_are_read_in_the_forms_that_models_write(text: str, wanted: list[Call]) -> None:
    assert read_calls(text, ["f"]) == wanted


TOOLS = settings.ToolCalls("tool_calls", ["case", "space", "punctuation"])
ACCEPTED = [
    {"f": {"city": ["New York", "NYC"], "days": [3], "unit": ["C", ""]}},
    {"g": {"box": [{"w": [1, 2], "h": [1, ""]}]}},
]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ('[f(city="new-york", days=3), g(box={"w": 2})]', 100),
        ('[g(box={"w": 1, "h": 1}), f(city="NYC", days=3.0, unit="c")]', 100),
        ('f(city="NYC", days=3)', 0),
        ('[f(city="NYC", days=3), g(box={"w": 3})]', 0),
        ('[f(city="NYC", days="3"), g(box={"w": 1})]', 0),
        ('[f(city="NYC", days=3, more=1), g(box={"w": 1})]', 0),
        ('[f(city="NYC"), g(box={"w": 1})]', 0),
        ('[f(city="NYC", days=3), h(box={"w": 1})]', 0),
        ("no call", 0),
    ],
)
def test_accepted_alternatives_are_right_and_nothing_else(answer: str, wanted: float) -> None:
    score = grade_of(TOOLS)
    assert points(score("", answer, accepted=ACCEPTED)) == wanted


def test_where_no_call_is_due_none_may_be_made() -> None:
    score = grade_of(TOOLS)
    assert points(score("[]", "I cannot do that.", accepted=[])) == 100
    assert points(score("I cannot.", "f(a=1)")) == 0
    assert status(score("", "", accepted="nonsense")) == "no_reference"


def test_positional_arguments_have_the_names_of_the_tool_s_parameters() -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"properties": {"a": {}, "b": {}}}},
        }
    ]
    score = grade_of(TOOLS)
    assert points(score('f(a=1, b="x")', 'f(1, "x")', tools=tools)) == 100
    assert points(score('f(a=1, b="x")', 'f("x", 1)', tools=tools)) == 0


def test_text_overlap_measures_both() -> None:
    score = grade_of(settings.TextOverlap("text_overlap", "token_f1", "rouge_l"))
    outcome = score("the cat sat", "sat the cat")
    assert isinstance(outcome, Graded)
    assert outcome.precision == 100
    assert outcome.similarity == pytest.approx(200 / 3)
    assert score("the cat", "") == Graded(0, 0)
    assert status(score("", "the cat")) == "no_reference"


CODE = settings.Code("code", 1, 256)


def test_code_passes_its_tests_or_does_not(sandbox: Sandbox) -> None:
    score = grade_of(CODE, sandbox=sandbox)
    expected = {"test": "def check(f):\n    assert f(2) == 4", "entry_point": "double"}
    prompt = "def double(x):\n    '''Twice x.'''\n"
    for answer in (
        "    return 2 * x\n",
        "def double(x):\n    return x + x",
        "Here:\n```python\nimport math\ndef double(x):\n    return math.prod([2, x])\n```",
    ):
        assert points(score("", answer, prompt, **expected)) == 100, answer
    for answer in (
        "    return x\n",
        "I cannot.",
        "",
        "    import os; os._exit(0)\n",
        "    exit()\n",
    ):
        assert points(score("", answer, prompt, **expected)) == 0, answer
    assert points(score("", "def f(): return 1", test=["assert f() == 1", "assert f() < 2"])) == 100
    assert status(score("", "x = 1")) == "no_reference"


@pytest.mark.slow
def test_sql_compares_rows_and_nothing_writes(sandbox: Sandbox, tmp_path: Path) -> None:
    import sqlite3

    link = sqlite3.connect(tmp_path / "shop.sqlite")
    link.execute("CREATE TABLE t (a, b)")
    link.executemany("INSERT INTO t VALUES (?, ?)", [(1, "x"), (2, "y"), (2, "y")])
    link.commit()
    link.close()
    config = settings.Sql("sql", 1, 256, str(tmp_path))
    score = grade_of(config, sandbox=sandbox)
    reference, where = "SELECT a, b FROM t", {"database": "shop"}
    for answer in ("select a, b from t order by a desc;", "```sql\nSELECT t.a AS c, b FROM t\n```"):
        assert points(score(reference, answer, **where)) == 100, answer
    for answer in (
        *("SELECT DISTINCT a, b FROM t", "SELECT b, a FROM t", "DROP TABLE t", "nonsense", ""),
        *("DELETE FROM t", "ATTACH 'other.sqlite' AS o", "SELECT 1; SELECT 2"),
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    ):
        assert points(score(reference, answer, **where)) == 0, answer
    assert (
        points(score("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", **where)) == 0
    )
    assert status(score("SELECT z FROM t", reference, **where)) == "no_reference"
    assert status(score(reference, reference, database="../shop")) == "no_reference"


def test_a_function_of_the_user_s_scores_in_the_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy\n"
        "def grade(prompt, reference, answer, expected):\n"
        "    if answer == 'secret':\n"
        "        open('/etc/passwd').read()\n"
        "    return {'yes': True, 'half': 50.0, 'odd': 101}.get(answer)\n"
    )
    config = settings.Python("python", False, 5, 2048, f"{file}:grade")
    score = grade_of(config, sandbox=sandbox)
    assert points(score("", "yes")) == 100
    assert points(score("", "half")) == 50
    for answer in ("odd", "none", "secret"):
        assert status(score("", answer)) == "grader_error"
    with pytest.raises(BadInput, match="No such file"):
        grade_of(settings.Python("python", False, 5, 2048, f"{tmp_path}/other.py:grade"))


def test_an_error_of_a_grader_is_a_reason_and_no_score() -> None:
    score = grade_of(settings.Exact("exact", []))
    outcome = score("a", 3)  # type: ignore[arg-type]
    assert status(outcome) == "grader_error"
    assert "AttributeError" in outcome.reason  # type: ignore[operator]
