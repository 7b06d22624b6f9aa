"""FrugalGPT's released answers: a database of replies and a file of references become a table.

The database is one of `sqlitedict`: a table `unnamed` with `key` and `value`. A key is the `repr`
of a dictionary: the generation's parameters, `service_id` and `query` (examples and question). A
value is a pickled dictionary: `completion`, `cost` (USD), `latency` and the `raw` reply. The
references are `NAME_train.csv` and `NAME_test.csv`: query, answer and number, with a heading or
without one. Schema: github.com/stanford-futuredata/FrugalGPT, commit 41b5bbf, `src/FrugalGPT`.

Of every row it is said whether it was kept, and why not. A pickle can hold a program, so only plain
data is read of one; a value that names a class is skipped.
"""

import ast
import csv
import io
import math
import pickle
import re
import sqlite3
import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from understudy.errors import BadInput
from understudy.routing.data import Outcomes, check
from understudy.store.artifacts import write_atomically

# config/serviceidmap.json of the release; services without a number are keyed by their name.
SERVICES = {
    **{"0": "openai/text-davinci-002", "1": "openai/text-curie-001"},
    **{"1000": "openaichat/gpt-3.5-turbo", "2000": "openaichat/gpt-4"},
    **{"20000": "ai21/j1-jumbo", "20001": "ai21/j1-grande", "20002": "ai21/j1-large"},
    **{"30000": "cohere/xlarge", "30001": "cohere/medium", "60000": "textsynth/gptneox_20B"},
    **{"60001": "textsynth/fairseq_gpt_13B", "60002": "textsynth/gptj_6B"},
}
_COLUMNS, _FIELDS = {"key", "value"}, {"completion", "cost", "latency", "raw"}
_REFERENCES = ("query", "ref_answer", "query_id")
_IDS = ("query_id", "_id", "id")
_MOST = 0.5  # of the queries an LLM has to have answered, or it is left out and not the queries
_HEAD = b"SQLite format 3\x00"


class Reference(NamedTuple):
    """A query with its right answer."""

    query: str
    answer: str
    number: str


class _Reply(NamedTuple):
    """What one LLM answered to one prompt."""

    llm: str
    prompt: str
    settings: str  # of the generation, as their repr
    answer: str
    usd: float


class _Account(NamedTuple):
    """What became of every row, and what nobody reads."""

    rows: Counter[str]  # reason -> rows of the database left out
    lines: Counter[str]  # reason -> lines of the references left out
    unknown: Counter[str]  # tables, columns and fields -> how often

    def notes(self, total: int, llms: list[str], queries: int) -> tuple[str, ...]:
        """The account in sentences; kept and left out together are all rows."""
        kept, left = len(llms) * queries, sum(self.rows.values())
        assert kept + left == total, f"{total} rows, of which {kept} are kept and {left} left out"
        both = [*self.rows.most_common(), *self.lines.most_common()]
        return (
            f"{kept:,} of {total:,} answers kept: {len(llms)} LLMs on {queries:,} queries",
            *(f"{count:,} left out: {reason}" for reason, count in both if count),
            *(f"not read: {what} ({count:,} times)" for what, count in self.unknown.most_common()),
        )


class _Odd(Exception):
    """Why a row is skipped."""


class _Plain(pickle.Unpickler):
    """Reads dictionaries, lists, texts and numbers, and runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise _Odd(f"its value holds a {module}.{name}, which is no plain data")


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD


def read(database: Path, references: Sequence[Path]) -> Outcomes:
    """The table of a database and its references; `notes` accounts for every row.

    Costs are in USD of a call; a success is 1 where the answer is the reference (`plain`). Raises
    BadInput where a file is missing or another one, or where no query has an answer of every LLM.
    """
    if not references:
        raise BadInput(
            f"{database} holds answers without their references; give --references NAME_train.csv "
            "(and again for NAME_test.csv), the files that were released with it"
        )
    account = _Account(Counter(), Counter(), Counter())
    known = _known(references, account)
    replies: defaultdict[str, defaultdict[Reference, list[_Reply]]]
    replies = defaultdict(lambda: defaultdict(list))  # LLM -> reference -> answers
    total = 0
    for key, value in _rows(database, account.unknown):
        total += 1
        try:
            reply = _reply(key, value, account.unknown)
            one = _reference(reply.prompt, known)
            replies[reply.llm][one].append(reply)
        except _Odd as odd:
            account.rows[str(odd)] += 1
    chosen = {llm: _one_each(found, account.rows) for llm, found in replies.items()}
    asked = {one for found in chosen.values() for one in found}
    llms = [llm for llm in sorted(chosen) if len(chosen[llm]) >= _MOST * len(asked)]
    for llm in sorted(set(chosen) - set(llms)):
        reason = f"{llm} answered fewer than half of the queries and is left out"
        account.rows[reason] += len(chosen[llm])
    every = [one for here in known.values() for one in here]
    whole = [one for one in every if all(one in chosen[llm] for llm in llms)]
    if not llms or not whole:
        raise BadInput(_nothing(database, references, account.rows))
    lacking = sum(len(chosen[llm]) for llm in llms) - len(llms) * len(whole)
    account.rows["some LLM did not answer the same query"] += lacking
    account.lines["a reference that not every LLM answered"] += len(every) - len(whole)
    return _outcomes(database, chosen, llms, whole, account.notes(total, llms, len(whole)))


def write_table(outcomes: Outcomes, path: Path) -> None:
    """Write a table that `understudy route` reads: id, text, and per LLM success and cost."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["id", "text", *(f"{llm}{end}" for llm in outcomes.llms for end in ("", "_cost"))]
    )
    texts = outcomes.text or [""] * len(outcomes.ids)
    for place, (one, query) in enumerate(zip(outcomes.ids, texts, strict=True)):
        cells = zip(outcomes.success[place], outcomes.cost[place], strict=True)
        rows.writerow([one, query, *(f"{cell:.10g}" for pair in cells for cell in pair)])
    write_atomically(path, text.getvalue())


def plain(answer: str) -> str:
    """An answer as FrugalGPT compares it: no case, punctuation, articles and further white space.

    As in `src/service/utils.py` of the release, after SQuAD's (Rajpurkar et al. 2016).
    """
    bare = answer.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _rows(database: Path, unknown: Counter[str]) -> Iterator[tuple[Any, Any]]:
    """Key and value of every row of every table that has both."""
    if not database.is_file():
        raise BadInput(f"{database} does not exist")
    if not is_database(database):
        raise BadInput(f"{database} is no SQLite database")
    link = sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)
    try:
        listed = link.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
        names = [str(row[0]) for row in listed]
        found = 0
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            columns = {str(row[1]) for row in link.execute(f"PRAGMA table_info({quoted})")}
            if not columns >= _COLUMNS:
                unknown[f"the table {name}, which has no columns key and value"] += 1
                continue
            found += 1
            for column in sorted(columns - _COLUMNS):
                unknown[f"the column {column} of the table {name}"] += 1
            yield from link.execute(f"SELECT key, value FROM {quoted} ORDER BY key")
        if not found:
            raise BadInput(
                f"{database} has no table with columns key and value: {', '.join(names)}"
            )
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{database} cannot be read: {error}") from None
    finally:
        link.close()


def _reply(key: Any, value: Any, unknown: Counter[str]) -> _Reply:
    try:
        said = ast.literal_eval(key)
        llm, prompt = str(said.pop("service_id")), str(said.pop("query"))
    except (ValueError, SyntaxError, TypeError, AttributeError, KeyError, MemoryError):
        raise _Odd("its key is no dictionary with service_id and query") from None
    try:
        found = _Plain(io.BytesIO(value)).load()
    except _Odd:
        raise
    except Exception:  # a pickle can fail in any way
        raise _Odd("its value is no pickle") from None
    if not isinstance(found, dict):
        raise _Odd("its value is no dictionary")
    for name in found.keys() - _FIELDS:
        unknown[f"the field {name} of answers"] += 1
    answer, usd = found.get("completion"), found.get("cost")
    if not isinstance(answer, str):
        raise _Odd("it has no completion")
    if isinstance(usd, bool) or not isinstance(usd, int | float):
        raise _Odd("it has no cost")
    if not 0 <= usd < math.inf:
        raise _Odd("its cost is no number of dollars")
    return _Reply(SERVICES.get(llm, llm), prompt, repr(said), answer, float(usd))


Known = dict[str, list[Reference]]  # by the last paragraph of the query


def _known(files: Sequence[Path], account: _Account) -> Known:
    """Every reference once; where two of a query differ in their answer, `_reference` says so."""
    found: Known = {}
    seen: set[tuple[str, str]] = set()
    for path in files:
        for one in _references(path, account):
            key = one.query.strip(), plain(one.answer)
            if key in seen:
                account.lines[f"a reference of {path.name} that was known"] += 1
                continue
            seen.add(key)
            found.setdefault(_question(one.query), []).append(one)
    return found


def _references(path: Path, account: _Account) -> Iterator[Reference]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no CSV file in UTF-8") from None
    csv.field_size_limit(2**31 - 1)
    rows = list(csv.reader(io.StringIO(text)))
    names = list(_REFERENCES)
    if rows and set(rows[0]) >= set(_REFERENCES[:2]):
        names = rows.pop(0)
        for name in names:
            if name not in (*_REFERENCES, *_IDS):
                account.unknown[f"the column {name} of {path.name}"] += len(rows)
    for place, row in enumerate(rows):
        cells = dict(zip(names, row, strict=False))
        if len(row) < 2 or not cells.get("query") or "ref_answer" not in cells:
            account.lines[f"a line of {path.name} without query or answer"] += 1
            continue
        number = next((cells[name] for name in _IDS if cells.get(name)), str(place))
        yield Reference(cells["query"], cells["ref_answer"], number)


def _question(text: str) -> str:
    """The last paragraph: few-shot examples stand before it."""
    return text.strip().rpartition("\n\n")[2].strip()


def _reference(prompt: str, known: Known) -> Reference:
    """The reference whose query ends the prompt, the longest of several."""
    here = known.get(_question(prompt), [])
    ends = [one for one in here if prompt.strip().endswith(one.query.strip())] or here
    if not ends:
        raise _Odd("no reference has its query")
    longest = max(len(one.query.strip()) for one in ends)
    best = [one for one in ends if len(one.query.strip()) == longest]
    if len({plain(one.answer) for one in best}) > 1:
        raise _Odd("references of its query have different answers")
    return best[0]


def _one_each(
    found: dict[Reference, list[_Reply]], account: Counter[str]
) -> dict[Reference, _Reply]:
    """One answer a query, of the settings that this LLM has most answers of."""
    counted = Counter(reply.settings for replies in found.values() for reply in replies)
    usual = max(counted, key=lambda one: (counted[one], one))
    chosen = {}
    for one, replies in found.items():
        right = [reply for reply in replies if reply.settings == usual]
        account["its LLM has more answers of other settings"] += len(replies) - len(right)
        if right:
            chosen[one] = right[0]
            account["its LLM was asked the same in another prompt"] += len(right) - 1
    return chosen


def _nothing(database: Path, references: Sequence[Path], account: Counter[str]) -> str:
    names = ", ".join(path.name for path in references)
    why = "; ".join(f"{count:,}: {reason}" for reason, count in account.most_common(3) if count)
    return f"{database} and {names} share no query that every LLM answered ({why or 'no row'})"


def _outcomes(
    database: Path,
    chosen: dict[str, dict[Reference, _Reply]],
    llms: list[str],
    whole: list[Reference],
    notes: tuple[str, ...],
) -> Outcomes:
    success = [
        [plain(chosen[llm][one].answer) == plain(one.answer) for llm in llms] for one in whole
    ]
    cost = [[chosen[llm][one].usd for llm in llms] for one in whole]
    texts = [one.query for one in whole]
    found = Outcomes(
        llms,
        np.array(success, float),
        np.array(cost, float),
        [one.number for one in whole],
        texts,
        {"line": texts},
        notes=notes,
    )
    check(found.success, found.cost, llms, str(database))
    return found
