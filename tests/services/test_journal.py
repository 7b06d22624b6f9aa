"""The call journal: what is found again, what counts as uncertain, who may write and read."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import paid
from understudy.errors import BadInput, EnvironmentFailed
from understudy.services.base import Reply, Request, Usage
from understudy.services.journal import key_of, open_journal
from understudy.services.segment import PaidCall, Segment

KEYS = [key_of(paid.service(), request) for request in paid.requests(9)]
REPLY = Reply("a \ud800 lone surrogate, \x00 and ü", "length", Usage(7, 1, 3, 2), "gpt-1", "id")


def call(number: int = 0, **changed: Any) -> PaidCall:
    facts = {"stage": "evaluation/0", "purse": "run/test", "service": "paid", "model": "gpt-test"}
    return PaidCall(KEYS[number], **facts | {"mode": "online", "reserved": 1000} | changed)


def write(root: Path, *writes: Any) -> None:
    """Run writes (functions of a segment) one after the other in a segment of their own."""

    async def all_writes() -> None:
        for one in writes:
            await one(segment)

    segment = Segment(root / "journal")
    try:
        asyncio.run(all_writes())
    finally:
        segment.close()


def bought(one: PaidCall, reply: Reply = REPLY, microusd: int = 450) -> Any:
    async def buy(segment: Segment) -> None:
        await segment.answered(await segment.sent(one), one, reply, microusd, 0.5, 1)

    return buy


def lost(one: PaidCall) -> Any:
    def send(segment: Segment) -> Coroutine[Any, Any, int]:
        return segment.sent(one)

    return send


def test_a_reply_is_found_again_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, bought(call()), bought(call(1), Reply("no usage")))
    with open_journal(tmp_path / "journal") as journal:
        assert journal.find(KEYS[0]) == REPLY
        assert journal.find(KEYS[1]) == Reply("no usage")
        assert journal.find(KEYS[2]) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "gpt-other"},
        {"provider": "openai_compatible"},
        {"base_url": "http://127.0.0.1:1/v1"},
        {"rehearsal": False},
        {"temperature": 0.0},
        {"max_output_tokens": 101},
        {"reasoning": "low"},
        {"structured": False},
    ],
)
def test_whatever_can_change_a_reply_changes_its_key(changed: dict[str, Any]) -> None:
    (request,) = paid.requests(1)
    assert key_of(paid.service(**changed), request) != KEYS[0]


def test_text_schema_and_index_change_the_key_and_nothing_else_does() -> None:
    (request,) = paid.requests(1)
    others = [*paid.requests(1, "hullo"), Request(request.messages, schema={})]
    assert len({*KEYS, *(key_of(paid.service(), other) for other in others)}) == len(KEYS) + 2
    free = paid.service(name="other", concurrency=3, prices=None, mode="batch", key_env="KEY")
    assert key_of(free, request) == KEYS[0]


def test_sums_are_taken_by_any_column_and_over_all_segments(tmp_path: Path) -> None:
    first, second = Segment(tmp_path / "journal"), Segment(tmp_path / "journal")
    asyncio.run(bought(call())(first))
    asyncio.run(bought(call(1, stage="synthesis/1"), microusd=7)(second))
    asyncio.run(bought(call(2, purse="run/other"))(second))
    asyncio.run(lost(call(3))(second))
    first.close()
    second.close()
    assert len(list((tmp_path / "journal").glob("*.sqlite"))) == 2
    with open_journal(tmp_path / "journal") as journal:
        (whole,) = journal.totals()
        assert (whole.calls, whole.microusd, whole.usage) == (3, 907, Usage(21, 3, 9, 6))
        assert (whole.uncertain_calls, whole.uncertain_microusd) == (1, 1000)
        by_stage = {total.by: total.microusd for total in journal.totals("stage")}
        assert by_stage == {("evaluation/0",): 900, ("synthesis/1",): 7}
        assert [t.by for t in journal.totals("purse", "stage", model="gpt-test")] == [
            ("run/other", "evaluation/0"),
            ("run/test", "evaluation/0"),
            ("run/test", "synthesis/1"),
        ]
        assert journal.purse_total("run/test") == 450 + 7 + 1000
        assert journal.purse_total("run/none") == 0
        with pytest.raises(BadInput, match="no column colour; choose from day, stage"):
            journal.totals("colour")


def test_a_call_that_was_void_or_answered_by_another_process_is_not_uncertain(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        number, other = await first.sent(call()), await first.sent(call(1))
        await first.void(number, call(), 3)
        await second.answered(other, call(1), REPLY, 9, 0.1, 2)

    first, second = Segment(tmp_path / "journal"), Segment(tmp_path / "journal")
    asyncio.run(story())
    with open_journal(tmp_path / "journal") as journal:
        (whole,) = journal.totals()
        assert (whole.calls, whole.uncertain_calls, whole.attempts) == (1, 0, 2)
        assert journal.purse_total("run/test") == 9
    first.close()
    second.close()


def test_nobody_else_may_read_the_journal(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        segment = Segment(tmp_path / "journal")

        async def look() -> set[int]:
            modes: set[int] = set()
            writing = asyncio.gather(*(bought(call())(segment) for _ in range(200)))
            while not writing.done():
                for path in files.glob("*.sqlite*"):
                    with contextlib.suppress(FileNotFoundError):  # committed meanwhile
                        modes.add(stat.S_IMODE(path.stat().st_mode))
                await asyncio.sleep(0)
            return modes

        files = tmp_path / "journal"
        assert asyncio.run(look()) == {0o600}
        segment.close()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(files.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in files.iterdir()} == {0o600}


def test_a_dead_process_leaves_its_segment_to_the_next_and_a_living_one_does_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, pathlib; from understudy.services.segment import Segment;"
        "s = Segment(pathlib.Path(sys.argv[1])); print(s.path.name, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "journal")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    theirs = child.stdout.readline().strip()
    mine = Segment(tmp_path / "journal")
    assert mine.path.name != theirs
    child.send_signal(signal.SIGKILL)
    child.communicate()
    heir = Segment(tmp_path / "journal")
    assert heir.path.name == theirs
    mine.close()
    heir.close()


def test_a_segment_without_a_first_commit_is_empty_and_can_be_taken_over(tmp_path: Path) -> None:
    write(tmp_path, bought(call()))
    (path,) = (tmp_path / "journal").glob("*.sqlite")
    path.rename(path.with_stem("elsewhere-0"))
    path.touch()
    with open_journal(tmp_path / "journal") as journal:
        assert journal.find(KEYS[0]) == REPLY
    write(tmp_path, bought(call(1)))
    with open_journal(tmp_path / "journal") as journal:
        assert journal.totals()[0].calls == 2


def test_a_commit_that_a_crash_has_torn_is_rolled_back(tmp_path: Path) -> None:
    write(tmp_path, bought(call()))
    code = (
        "import sqlite3, sys, os; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "d.execute('PRAGMA cache_size=1'); d.execute('BEGIN IMMEDIATE');"
        "d.executemany('INSERT INTO texts VALUES (?, ?)', [(n, 'x' * 5000) for n in range(300)]);"
        "os._exit(9)"
    )
    (path,) = (tmp_path / "journal").glob("*.sqlite")
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    assert path.with_name(f"{path.name}-journal").exists()  # half a transaction is in the file
    with open_journal(tmp_path / "journal") as journal:
        assert journal.find(KEYS[0]) == REPLY
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM texts").fetchone() == (1,)
    database.close()


def test_a_segment_that_is_no_database_stops_with_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, bought(call()))
    (path,) = (tmp_path / "journal").glob("*.sqlite")
    path.write_bytes(b"not a database, but as long as one page of it" * 200)
    with pytest.raises(EnvironmentFailed, match=rf"{path.name} cannot be used.*pay for its calls"):
        open_journal(tmp_path / "journal").__enter__()
    with pytest.raises(EnvironmentFailed, match="cannot be used"):
        Segment(tmp_path / "journal")


def test_a_segment_is_read_while_another_process_writes_it(tmp_path: Path) -> None:
    async def story() -> None:
        writing = asyncio.create_task(write_all())
        while not writing.done():
            with open_journal(tmp_path / "journal") as journal:
                totals = journal.totals()
                seen.append(totals[0].calls if totals else 0)
            await asyncio.sleep(0.001)
        await writing

    async def write_all() -> None:
        for _ in range(5):
            await asyncio.gather(*(bought(call(n))(segment) for n in range(9)))

    seen: list[int] = []
    segment = Segment(tmp_path / "journal")
    asyncio.run(story())
    segment.close()
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_an_export_has_every_reply_and_a_purge_forgets_the_words_but_not_the_money(
    tmp_path: Path,
) -> None:
    write(tmp_path, bought(call(), Reply("secret words", usage=paid.USAGE)), lost(call(1)))
    write(tmp_path, bought(call(2, stage="synthesis/1")))
    with open_journal(tmp_path / "journal") as journal:
        rows = list(journal.export())
        assert [row["text"] for row in rows] == ["secret words", REPLY.text]
        assert rows[0]["key"] == KEYS[0].hex()
        before = journal.totals("purse")
        assert journal.purge(stage="evaluation/0") == 1
        assert [row["stage"] for row in journal.export()] == ["synthesis/1"]
        assert journal.find(KEYS[0]) is None
        assert journal.find(KEYS[2]) == REPLY
        assert journal.totals("purse") == before
        assert journal.purge() == 1
    for path in (tmp_path / "journal").iterdir():
        assert b"secret words" not in path.read_bytes()
        assert KEYS[2] not in path.read_bytes()


def test_a_purge_waits_for_no_one_and_says_who_writes(tmp_path: Path) -> None:
    write(tmp_path, bought(call()))
    segment = Segment(tmp_path / "journal")
    with (
        open_journal(tmp_path / "journal") as journal,
        pytest.raises(BadInput, match="a running command writes"),
    ):
        journal.purge()
    segment.close()


def test_a_missing_journal_is_an_empty_one(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal") as journal:
        assert journal.totals() == []
        assert journal.find(KEYS[0]) is None
        assert list(journal.export()) == []
    assert not (tmp_path / "journal").exists()


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.lists(st.builds(Reply, st.text(), st.sampled_from(["stop", "blocked"])), max_size=9))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, replies: list[Reply]) -> None:
    root = tmp_path_factory.mktemp("any")
    write(root, *(bought(call(n), reply) for n, reply in enumerate(replies)))
    with open_journal(root / "journal") as journal:
        assert [journal.find(KEYS[n]) for n in range(len(replies))] == replies
