"""Generated rows and files: what is read is kept or has a reason, and every column is named."""

import bz2
import codecs
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import generated
from support.files import write
from understudy.config import Config, changed
from understudy.data import coverage
from understudy.data.prepare import prepare
from understudy.data.reading import Raw, read_file
from understudy.errors import BadInput

Composed = Callable[..., Config]
ROWS = 10_000
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pairs", "messages"])
def test_every_row_is_kept_as_it_was_meant_or_has_a_reason(
    kind: str, composed: Composed, tmp_path: Path
) -> None:
    dice = random.Random(f"rows of {kind}")
    made = [generated.row(dice, kind) for _ in range(ROWS // 2)]
    path = write(tmp_path / "a.jsonl", [one.values for one in made])
    config = composed("coverage=file", "coverage.path=x", "task=closed_qa")
    config = changed(config, {"coverage.path": str(path), "coverage.tolerance": 1.0})
    config = prepare(config, tmp_path / "hub.json").config
    found = coverage.find(config.coverage, config.task.name)
    assert found.total == len(made)
    assert len(found.pairs) + len(found.bad) + found.not_coverage.total() == len(made)
    wanted = [one.wanted for one in made if one.wanted is not None and all_said(one.wanted)]
    assert [pair.messages for pair in found.pairs] == wanted
    unread = {name for one in made for name in one.unread}
    assert unread <= set(found.columns.unread)
    assert set(found.columns.unread) <= unread | {"messages[].tool_calls"}
    reasons = [bad.partition(" ")[2] for bad in found.bad]
    assert all(reasons)
    assert all(name.partition(":")[2].split(" ")[0].isdigit() for name in found.bad)


def all_said(turns: list[dict[str, str]]) -> bool:
    return all(turn["content"].strip() for turn in turns)


# --- files --------------------------------------------------------------------------------------

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-8 with its mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    **{"no packing": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress},
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(
    st.dictionaries(TEXTS, VALUES, max_size=4).map(lambda row: {"prompt": "why"} | row),
    min_size=1,
    max_size=8,
)


def lines(rows: list[Any], end: str) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


CONTAINERS: dict[str, Callable[[list[Any]], str]] = {
    "lines": lambda rows: lines(rows, "\n"),
    "CRLF": lambda rows: lines(rows, "\r\n"),
    "CR": lambda rows: lines(rows, "\r"),
    "blank lines": lambda rows: "\n" + lines(rows, "\n\n \n"),
    "a list": json.dumps,
    "a list over lines": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "jq": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
}


@pytest.mark.slow
@FEW
@given(
    OBJECTS,
    st.sampled_from(sorted(CONTAINERS)),
    st.sampled_from(sorted(ENCODINGS)),
    st.sampled_from(sorted(PACKINGS)),
    st.sampled_from(["a.jsonl", "a.json"]),
)
def test_the_same_objects_are_read_however_they_are_written(
    tmp_path: Path, rows: list[Any], container: str, encoding: str, packing: str, name: str
) -> None:
    text = CONTAINERS[container](rows)
    (tmp_path / name).write_bytes(PACKINGS[packing](ENCODINGS[encoding](text)))
    assert [raw.values for raw in read_file(tmp_path / name)] == rows


@pytest.mark.slow
@FEW
@given(st.binary(min_size=1, max_size=200), st.sampled_from(["jsonl", "json", "csv", "parquet"]))
def test_any_bytes_give_rows_that_say_what_is_wrong_or_one_sentence(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    said, rows = "", tuple[Raw, ...]()
    try:
        rows = read_file(path)
    except BadInput as error:
        said = str(error)
    assert bool(said) != bool(rows)
    assert not said or (str(path) in said and "\n" not in said)
    assert all(raw.values is not None or raw.problem for raw in rows)
