"""Stage directories, row logs and locks survive crashes."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import BadInput
from understudy.records import Answer
from understudy.store import locks
from understudy.store.artifacts import RowLog, StageDir, canonical, digest, fingerprint


def answer(prompt: str, k: int, text: str = "x") -> Answer:
    return Answer(prompt, prompt, k, text, 1, "stop", "tiny", "understudy")


def test_canonical_json_does_not_depend_on_order_or_spelling() -> None:
    assert canonical({"b": 1e-4, "a": 1}) == canonical({"a": 1, "b": 0.0001})
    assert len(fingerprint({})) == 16


def test_a_digest_is_of_contents_and_names_not_of_the_place(tmp_path: Path) -> None:
    for place, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "f").write_text(text)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    with pytest.raises(BadInput, match="nowhere"):
        digest(tmp_path / "nowhere")


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.text(max_size=8), st.integers(0, 3)), unique=True, max_size=12),
    st.text(max_size=20),
    st.randoms(),
)
def test_rows_end_up_sorted_with_the_same_bytes_whatever_the_order_and_the_crash(
    keys: list[tuple[str, int]], text: str, random: object
) -> None:
    import random as random_module
    import tempfile

    assert isinstance(random, random_module.Random)
    rows = [answer(prompt, k, text) for prompt, k in keys]
    contents = []
    for torn in (False, True):
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            random.shuffle(rows)
            half = len(rows) // 2
            log = RowLog(out, Answer)
            log.append(rows[:half])
            if torn:
                with log.path.open("a") as file:
                    file.write('{"prompt_id":"torn')
                log = RowLog(out, Answer)
                assert set(log.rows) == {row.key for row in rows[:half]}
            log.append(rows[half:])
            finished = log.finish()
            assert [row.key for row in finished] == sorted(row.key for row in rows)
            contents.append(log.path.read_bytes())
    assert contents[0] == contents[1]


def test_a_row_that_is_not_of_the_schema_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt_id": "p"}\n')
    with pytest.raises(BadInput, match=r"rows.jsonl:1 lacks family, finish"):
        RowLog(tmp_path, Answer)


def test_publishing_is_the_last_step_and_leaves_no_attempt(tmp_path: Path) -> None:
    stage = StageDir(tmp_path / "s" / "fp")
    stage.prepare({"a": 1}, {})
    attempt = stage.open_attempt()
    (attempt / "out" / "rows.jsonl").write_text("")
    assert not stage.is_done
    stage.publish(attempt, {"seconds": 1})
    assert stage.is_done
    assert (stage.out / "rows.jsonl").is_file()
    assert not (stage.path / "attempts").exists()


def test_the_next_attempt_continues_the_newest_one(tmp_path: Path) -> None:
    stage = StageDir(tmp_path / "s" / "fp")
    stage.prepare({}, {})
    first = stage.open_attempt()
    (first / "out" / "half").write_text("work")
    second = stage.open_attempt()
    assert second != first
    assert not first.exists()
    assert (second / "out" / "half").read_text() == "work"


def test_a_finished_stage_keeps_its_own_config(tmp_path: Path) -> None:
    stage = StageDir(tmp_path / "s" / "fp")
    stage.prepare({"first": True}, {})
    stage.publish(stage.open_attempt(), {})
    stage.prepare({"first": False}, {})
    assert stage.read("config.json") == {"first": True}


def _hold_and_count(lock: str, counter: str, times: int) -> None:
    for _ in range(times):
        with locks.hold(Path(lock), give_up=lambda: False) as is_mine:
            assert is_mine
            value = int(Path(counter).read_text())
            Path(counter).write_text(str(value + 1))


@pytest.mark.slow
def test_only_one_process_holds_a_lock_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    arguments = (str(tmp_path / "LOCK"), str(counter), 5)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_hold_and_count, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert counter.read_text() == "15"


def test_a_dead_holders_lock_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / "LOCK"
    with locks.hold(lock, give_up=lambda: False):
        holder = json.loads(lock.read_text())
    pid = os.spawnlp(os.P_WAIT, "true", "true")  # returns 0: the process is gone
    lock.write_text(json.dumps(holder | {"pid": pid or 2**22 + 1, "started": "1"}))
    with locks.hold(lock, give_up=lambda: False) as is_mine:
        assert is_mine
    assert not lock.exists()


def test_a_waiter_gives_up_when_the_stage_gets_done(tmp_path: Path) -> None:
    lock = tmp_path / "LOCK"
    with (
        locks.hold(lock, give_up=lambda: False),
        locks.hold(lock, give_up=lambda: True) as is_mine,
    ):
        assert not is_mine
