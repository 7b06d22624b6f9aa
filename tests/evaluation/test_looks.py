"""The ledger of looks: what is another look, what is the same, and what a crash leaves."""

import json
import threading
from pathlib import Path

from understudy.evaluation.looks import file_of, look


def test_another_look_has_the_next_number_and_the_same_one_keeps_its_own(tmp_path: Path) -> None:
    file = file_of(tmp_path, ["p", "q"])
    first, second = {"stages": "a", "margin": 5.0}, {"stages": "b", "margin": 5.0}
    assert look(file, "run", first) == 1
    assert look(file, "run", second) == 2
    assert look(file, "again", first) == 1
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["run"] for line in lines] == ["run", "run"]
    assert lines[0]["evidence"] == first


def test_another_margin_is_another_look(tmp_path: Path) -> None:
    file = file_of(tmp_path, ["p"])
    assert [look(file, "run", {"margin": margin}) for margin in (5.0, 10.0, 5.0)] == [1, 2, 1]


def test_a_holdout_is_its_prompts_whatever_their_order(tmp_path: Path) -> None:
    assert file_of(tmp_path, ["p", "q"]) == file_of(tmp_path, ["q", "p"])
    assert file_of(tmp_path, ["p", "q"]) != file_of(tmp_path, ["p"])


def test_a_line_torn_by_a_crash_was_never_told_and_is_no_look(tmp_path: Path) -> None:
    file = file_of(tmp_path, ["p"])
    look(file, "run", {"stages": "a"})
    with file.open("a", encoding="utf-8") as torn:
        torn.write('{"look": "12')
    assert look(file, "run", {"stages": "b"}) == 2
    assert len(file.read_text().splitlines()) == 2


def test_looks_taken_at_once_get_different_numbers(tmp_path: Path) -> None:
    file, numbers = file_of(tmp_path, ["p"]), list[int]()
    threads = [
        threading.Thread(target=lambda n=n: numbers.append(look(file, "run", {"stages": n})))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))
