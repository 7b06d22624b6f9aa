"""What kind of workload a file holds, told from its answers, and the grader that fits.

From texts to a proposal with its reason. No proposal is better than a wrong one: 19 of 20
answers must be of the kind, and free text has no rule.
"""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from understudy.evaluation.graders.json import read
from understudy.prompts.calls import read_calls

_SHARE = 0.95  # of the answers that must be of a kind
_LOOKED_AT = 2000  # answers, evenly over the file
_LABELS, _LONGEST = 200, 60  # of a closed set: labels at most, and characters of one
_TIMES = 3  # each label stands so often, on average
_FEWEST = 20  # rows that show anything
_NUMBER = re.compile(r"\s*[-−+]?[$€£]?\d[\d.,]*\s?%?\s*")
_FINAL = re.compile(r"####\s*[-−+]?[$€£]?[\d.,]+\s*$")
_QUERY = re.compile(r"\s*(?:```sql\s*)?(?:SELECT|WITH)\b", re.IGNORECASE)
_SQLITE, _DATABASES = b"SQLite format 3\0", {".sqlite", ".sqlite3", ".db"}
_TESTS = ("test", "tests", "test_list")
# What graders read of a row → the usual column.
_EXPECTED: dict[str, dict[str, tuple[str, ...]]] = {
    "code": {"test": _TESTS, "entry_point": ("entry_point",)},
    "tool_calls": {"accepted": ("accepted", "ground_truth"), "tools": ("tools", "functions")},
    "json": {"schema": ("schema", "json_schema")},
}


class ProposedGrader(NamedTuple):
    """A grader, why, and the columns that it reads beside the answer."""

    kind: str
    reason: str
    expected: dict[str, str]
    database: Path | None = None  # of queries: the only SQLite file beside the rows

    @property
    def is_complete(self) -> bool:
        """Whether it can grade without being told more: queries want a database."""
        return self.kind != "sql" or self.database is not None


def propose_grader(
    answers: Sequence[str], columns: Collection[str], folder: Path | None = None
) -> ProposedGrader | None:
    """Return the grader that fits these answers; None where no rule does.

    `folder` holds the file of the answers: a database of queries is looked for in it.
    """
    if len(answers) < _FEWEST:
        return None
    seen = answers[:: max(1, len(answers) // _LOOKED_AT)]
    tests = next((name for name in _TESTS if name in columns), None)
    kinds: tuple[tuple[str, Callable[[str], bool], str], ...] = (
        ("json", _is_json, "are JSON objects or lists"),
        ("sql", lambda text: _QUERY.match(text) is not None, "are SQL queries"),
        ("number", _is_number, "end with a number"),
    )
    if tests is not None:
        return _proposed("code", f"the column {tests} holds tests", columns)
    called = [bool(read_calls(text)) for text in seen]
    either = sum(c or text.strip() == "[]" for c, text in zip(called, seen, strict=True))
    if either >= _SHARE * len(seen) and 2 * sum(called) >= len(seen):  # sometimes none is due
        said = f"{sum(called) / len(seen):.0%} of the answers are tool calls"
        return _proposed("tool_calls", said.replace("%", " %"), columns)
    for kind, is_one, said in kinds:
        share = sum(map(is_one, seen)) / len(seen)
        if share >= _SHARE:
            found = _proposed(
                kind, f"{share:.0%} of the answers {said}".replace("%", " %"), columns
            )
            return found._replace(database=_database(folder)) if kind == "sql" else found
    labels = {answer.strip() for answer in answers}
    is_short = all(len(label) <= _LONGEST and "\n" not in label for label in labels)
    if is_short and 2 <= len(labels) <= min(_LABELS, len(answers) // _TIMES):
        return _proposed(
            "label", f"{len(answers):,} rows have {len(labels)} different answers", columns
        )
    return None


def _proposed(kind: str, reason: str, columns: Collection[str]) -> ProposedGrader:
    usual = _EXPECTED.get(kind, {})
    found = {
        name: next((one for one in names if one in columns), None) for name, names in usual.items()
    }
    return ProposedGrader(kind, reason, {name: one for name, one in found.items() if one})


def _database(folder: Path | None) -> Path | None:
    """The only SQLite file of a folder, by its first bytes."""
    found = []
    for path in folder.iterdir() if folder is not None else ():
        if path.suffix in _DATABASES and path.is_file():
            with path.open("rb") as file:
                found += [path] if file.read(len(_SQLITE)) == _SQLITE else []
    return found[0] if len(found) == 1 else None


def _is_json(text: str) -> bool:
    try:
        return text.lstrip()[:1] in ("{", "[", "`") and isinstance(read(text), dict | list)
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None or _FINAL.search(text) is not None
