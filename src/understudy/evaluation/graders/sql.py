"""sql: the answer's query gives the rows that the reference's gives, on a SQLite database.

Both run read-only in the sandbox. Rows count in any order, unless the reference orders them itself;
columns in theirs, by value: names do not count. Which database a row asks is in its
`expected.database`, where the grader's is a folder.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from understudy.config.grader import Sql
from understudy.errors import BadInput
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, Ungraded, wrong
from understudy.playground.sandbox import Sandbox
from understudy.prompts.fences import fenced
from understudy.records import Coverage

_TEXT = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*")
_INNER = re.compile(r"\([^()]*\)")
_NAME = re.compile(r"[\w.\-]+")


def make(settings: Sql, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule; raise BadInput where there is no database."""
    assert settings.database is not None, "checked when it was composed"
    root = Path(settings.database).expanduser().absolute()
    if not root.exists():
        raise BadInput(f"graders.*.database={settings.database} does not exist")

    def rule(case: Case) -> Outcome:
        path = root
        if root.is_dir():
            name = str(case.expected.get("database", ""))
            path = root / f"{name.removesuffix('.sqlite')}.sqlite"
            if not _NAME.fullmatch(name) or not path.is_file():
                return Ungraded("no_reference", f"there is no database {name!r} in {root.name}")
        wanted = _query(case.reference)
        ran = sandbox.run(
            "sql",
            seconds=settings.seconds,
            memory_mb=settings.memory_mb,
            database=f"file:{quote(str(path))}?mode=ro&immutable=1",
            reference=wanted,
            answer=_query(case.answer),
            in_order=orders(wanted),
        )
        if ran.status == "reference_error":
            return Ungraded("no_reference", f"the reference's query fails: {ran.detail}")
        if ran.status in ("same", "different", "answer_error", "cpu", "died"):
            return RIGHT if ran.status == "same" else wrong(ran.detail)
        return Ungraded("timeout" if ran.status == "wall" else "grader_error", ran.detail)

    return rule


def _query(text: str) -> str:
    inner = fenced(text, "sql", "sqlite")
    return (text if inner is None else inner).strip().rstrip(";").strip()


def orders(query: str) -> bool:
    """Return whether a query orders its own result, not only that of a query within."""
    text, before = _TEXT.sub("''", query), ""
    while text != before:
        before, text = text, _INNER.sub("", text)
    return re.search(r"\border\s+by\b", text, re.IGNORECASE) is not None
