"""`understudy judges` on tables of every shape: what is read, what is told, what is written."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.cli.main import main
from understudy.errors import BadInput
from understudy.judges import cells, columns, reading, study
from understudy.judges.study import JudgeStudy, Options


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV file of these rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def scores(items: int = 40, systems: int = 3) -> list[tuple[int, str, int, int]]:
    """(item, system, of a strict judge, of a lenient one), from 1 to 10."""
    draw = np.random.default_rng(7)
    found = []
    for item in range(items):
        for system in range(systems):
            quality = draw.integers(2, 8) + system
            strict = int(np.clip(quality - draw.integers(0, 2), 1, 10))
            lenient = int(np.clip(quality + draw.integers(0, 2), 1, 10))
            found.append((item, f"llm-{system}", strict, lenient))
    return found


def measured(path: Path, *words: str, **more: Any) -> JudgeStudy:
    return study.study(path, Options(words, draws=200, **more))


def rows(found: JudgeStudy, name: str) -> list[dict[str, Any]]:
    return found.tables.get(name, [])


def use_of(found: JudgeStudy, column: str) -> str:
    (use,) = [row["taken for"] for row in rows(found, "columns") if row["column"] == column]
    return str(use)


# --- shapes ---------------------------------------------------------------------------------------


@pytest.fixture
def long(tmp_path: Path) -> Path:
    made = [
        {"question_id": item, "model": system, "judge": judge, "score": score, "note": "x"}
        for item, system, strict, lenient in scores()
        for judge, score in (("severus", strict), ("bonny", lenient))
    ]
    made[0]["score"] = ""
    return table(tmp_path / "long.csv", made)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    made = [
        {"id": f"{item}-{system}", "q": item, "system": system,
         "severus_score": strict, "bonny_score": lenient}
        for item, system, strict, lenient in scores()
    ]  # fmt: skip
    made[0]["severus_score"] = ""
    return table(tmp_path / "wide.csv", made)


def test_a_row_per_verdict_and_a_column_per_judge_say_the_same(long: Path, wide: Path) -> None:
    first, second = measured(long), measured(wide)
    assert (first.verdicts, first.unscored) == (second.verdicts, second.unscored) == (240, 1)
    for name in ("judges", "agreement", "replaced"):
        assert sorted(rows(first, name), key=str) == sorted(rows(second, name), key=str)
    (moved,) = rows(first, "replaced")
    known = [one for one in scores()][1:]
    assert moved["answers"] == 119
    assert moved["shift"] == pytest.approx(
        np.mean([strict - lenient for _, _, strict, lenient in known]), abs=1e-12
    )
    assert rows(first, "missing")[0]["reason"] == "empty cell"


def test_every_column_is_used_left_aside_or_named_as_unknown(long: Path, wide: Path) -> None:
    assert use_of(measured(long), "note") == "unknown, not read"
    assert "columns that nobody knows: note" in measured(long).notes
    assert use_of(measured(long, "ignore=note"), "note") == "ignored: as asked"
    assert use_of(measured(wide), "id").startswith("ignored: another id than q")


def test_a_likert_scale_and_its_words_are_numbers(tmp_path: Path) -> None:
    words = ["strongly disagree", "disagree", "neutral", "agree", "strongly agree"]
    made = [
        {"item": n, "rater": rater, "rating": words[(n + shift) % 5] if n != 3 else "no idea"}
        for n in range(30)
        for rater, shift in (("expert_1", 0), ("expert_2", 1), ("gpt-4o", 1))
    ]
    found = measured(table(tmp_path / "likert.csv", made))
    (judge,) = rows(found, "judges")
    assert (judge["judge"], judge["scale"], judge["verdicts"]) == ("gpt-4o", "1–5", 29)
    beside = {row["judge"]: row for row in rows(found, "humans")}
    assert beside["gpt-4o"]["people"] == 2
    assert beside["expert_1"]["humans"] == "other experts"
    assert rows(found, "missing")[0]["reason"] == cells.UNREADABLE


def test_scores_in_text_are_read_and_missing_ones_counted_with_the_reason(tmp_path: Path) -> None:
    text = [
        "8/10",
        "Score: 7",
        "9 out of 10",
        "n/a",
        "6 - fair",
        "7,5",
        "I rate it 3 or 4",
        "refused",
    ]
    made = [
        {"prompt_id": n, "judge": "a", "verdict": text[n % 8],
         "error": "content_filter" if n % 8 == 7 else ""}
        for n in range(40)
    ]  # fmt: skip
    found = measured(table(tmp_path / "text.csv", made))
    (judge,) = rows(found, "judges")
    assert judge["scale"] == "1–10"
    assert judge["mean"] == pytest.approx(np.mean([8, 7, 9, 6, 7.5]))
    reasons = {row["reason"]: row["unscored"] for row in rows(found, "missing")}
    assert reasons == {cells.EMPTY: 5, cells.SEVERAL: 5, "content_filter": 5}


def test_winners_of_pairs_in_both_orders_show_the_place_and_the_wins(tmp_path: Path) -> None:
    made = []
    for n in range(30):
        made.append({"question": f"q{n}", "model_a": "x", "model_b": "y", "judge": "j",
                     "winner": "model_a" if n % 3 else "tie"})  # fmt: skip
        made.append({"question": f"q{n}", "model_a": "y", "model_b": "x", "judge": "j",
                     "winner": "model_b" if n % 2 else "model_a"})  # fmt: skip
    found = measured(table(tmp_path / "arena.csv", made))
    (judge,) = rows(found, "pairs")
    assert (judge["verdicts"], judge["both_orders"]) == (60, 30)
    assert judge["tied"] == pytest.approx(10 / 60)
    assert judge["same"] == pytest.approx(10 / 30)  # x wins both where n is odd and no third
    assert judge["place"] == pytest.approx((20 + 5 + 15) / 60)
    wins = {row["system"]: row["wins"] for row in rows(found, "wins")}
    assert wins["x"] == pytest.approx((20 + 5 + 15) / 60)
    assert wins["x"] + wins["y"] == pytest.approx(1)


def test_scores_of_two_answers_and_a_label_show_how_often_the_right_one_wins(
    tmp_path: Path,
) -> None:
    made = [
        {"pair": n, "judge": "j", "label": 1 + n % 2, "score_1": 5 + n % 3, "score_2": 6}
        for n in range(30)
    ]
    found = measured(table(tmp_path / "sides.csv", made))
    (choice,) = rows(found, "choices")
    right = [(5 + n % 3 > 6) if n % 2 == 0 else (5 + n % 3 < 6) for n in range(30)]
    assert choice["right"] == pytest.approx(np.mean(right))
    assert choice["tied"] == pytest.approx(1 / 3)


def test_repeats_in_columns_in_lists_and_in_rows_say_the_same(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    values = [[int(v) for v in draw.integers(1, 6, 4)] for _ in range(20)]
    places = table(
        tmp_path / "places.csv",
        [{"item": n, "judge": "j"} | {f"s{m + 1}": v for m, v in enumerate(one)}
         for n, one in enumerate(values)],
    )  # fmt: skip
    lists = tmp_path / "lists.jsonl"
    lists.write_text("".join(json.dumps({"item": n, "judge": "j", "scores": one}) + "\n"
                             for n, one in enumerate(values)))  # fmt: skip
    single = table(
        tmp_path / "rows.csv",
        [{"item": n, "judge": "j", "run": m, "score": v}
         for n, one in enumerate(values) for m, v in enumerate(one)],
    )  # fmt: skip
    first, *others = [rows(measured(path), "repeats") for path in (places, lists, single)]
    assert first[0]["repeats"] == 4
    assert all(one == first for one in others)


def test_a_folder_is_read_table_by_table_and_what_holds_no_verdict_is_named(
    tmp_path: Path, long: Path
) -> None:
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "texts.jsonl").write_text('{"question_id": 1, "text": "' + "long " * 60 + '"}\n')
    found = measured(tmp_path)
    assert found.verdicts == 240
    assert "README.md is no table and was not read" in found.notes
    assert any(note.startswith("texts.jsonl holds no judge's verdict") for note in found.notes)


def test_answers_are_compared_only_where_they_are_the_same(tmp_path: Path) -> None:
    made = [
        {"item": n, "model": "m", "judge": judge, "score": n % 5 + shift,
         "answer_sha": f"{n}-{judge if n >= 25 else 'same'}"}
        for n in range(40)
        for judge, shift in (("old", 1), ("new", 2))
    ]  # fmt: skip
    (moved,) = rows(measured(table(tmp_path / "again.csv", made)), "replaced")
    assert moved["answers"] == 25


def test_copies_of_a_verdict_are_no_repeats(tmp_path: Path) -> None:
    made = [
        {
            "item": n,
            "judge": "j",
            "round": r,
            "score": n % 5,
            "verdict_sha": f"{n}-{r if n < 5 else 0}",
        }
        for n in range(40)
        for r in (0, 1)
    ]
    found = measured(table(tmp_path / "rounds.csv", made))
    assert rows(found, "repeats")[0]["answers"] == 5
    assert any("35 verdicts are copies" in note for note in found.notes)


def test_wordings_on_other_scales_are_not_compared_unless_one_is_named(tmp_path: Path) -> None:
    made = [{"segment": n, "system": s, "gpt|DA": 20 * (n % 6), "gpt|stars": 1 + n % 5}
            for n in range(30) for s in "ab"]  # fmt: skip
    path = table(tmp_path / "wordings.csv", made)
    found = measured(path)
    assert {row["asked"]: row["scale"] for row in rows(found, "judges")} == {
        "DA": "0–100", "stars": "1–5"
    }  # fmt: skip
    assert not rows(found, "wording")
    assert any("on another scale" in note for note in found.notes)
    assert rows(measured(path, scale=(0.0, 100.0)), "wording")


def test_places_in_objects_are_known_by_their_last_part(tmp_path: Path) -> None:
    path = tmp_path / "nested.jsonl"
    path.write_text("".join(
        json.dumps({"example_id": n, "judge": {"name": name, "temperature": 0.5},
                    "result": {"score": n % 5 + 1, "rationale": "because " * 40}}) + "\n"
        for n in range(30) for name in ("a", "b")
    ))  # fmt: skip
    found = measured(path)
    assert use_of(found, "judge.temperature") == "temperature"
    assert use_of(found, "result.rationale") == "ignored: text"
    assert {row["asked"] for row in rows(found, "judges")} == {"temperature 0.5"}


def test_a_repeat_that_few_could_read_is_one_and_a_number_of_rows_is_no_score(
    tmp_path: Path,
) -> None:
    made = [{"row": n, "judge_run1": n % 7, "judge_run2": f"{n % 7}/10",
             "judge_run3": "refused" if n else 4} for n in range(40)]  # fmt: skip
    found = measured(table(tmp_path / "runs.csv", made))
    assert use_of(found, "row") == "item"
    (judge,) = rows(found, "judges")
    assert (judge["judge"], judge["verdicts"], judge["unscored"]) == ("judge", 81, 39)


def test_samples_by_the_hundred_are_items_and_dimensions_are_boards(tmp_path: Path) -> None:
    made = [{"sample": n, "model": system, "evaluator": judge, "helpfulness": n % 5 + 1,
             "overall": n % 4 + 1 if n else "NA"}
            for n in range(40) for system in "xy" for judge in ("a", "b")]  # fmt: skip
    found = measured(table(tmp_path / "dimensions.csv", made))
    assert use_of(found, "sample") == "item"
    assert {row["board"] for row in rows(found, "judges")} == {"helpfulness", "overall"}
    assert rows(found, "replaced")[0]["answers"] == 80


def test_a_preference_between_two_texts_is_a_winner(tmp_path: Path) -> None:
    made = [{"instruction_id": n, "annotator": "gpt-4", "output_1": "one " * 60,
             "output_2": "two " * 60, "preference": [1.0, 2.0, 1.5][n % 3]}
            for n in range(30)]  # fmt: skip
    found = measured(table(tmp_path / "preferences.csv", made))
    (judge,) = rows(found, "pairs")
    assert (judge["verdicts"], use_of(found, "instruction_id")) == (30, "item")
    assert judge["tied"] == pytest.approx(1 / 3)


# --- columns and cells ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "score", "top"),
    [
        ("8", 8, None), ("8.5", 8.5, None), ("8/10", 8, 10), ("7,5 / 10", 7.5, 10),
        ("85%", 85, 100), ("4 - good", 4, None), ("Rating: [[6]]", 6, None), ("★★★☆☆", 3, 5),
        ("Strongly Agree", 5, 5), ("true", 1, 1), (True, 1, None), ("-2", -2, None),
        ("", None, None), ("N/A", None, None), ("inf", None, None), ("gpt-4", None, None),
        ("3 or 4", None, None), ("no comment", None, None), ("0/0", None, None),
    ],
)  # fmt: skip
def test_a_cell_says_a_score_or_why_there_is_none(
    text: Any, score: float | None, top: float | None
) -> None:
    found = cells.score(text)
    assert (found.score, found.top) == (score, top)
    assert bool(found.reason) == (score is None)


def test_mixed_fractions_are_brought_to_the_widest_scale(tmp_path: Path) -> None:
    made = [{"item": n, "judge": "j", "score": "4/5" if n % 2 else "6/10"} for n in range(20)]
    (judge,) = rows(measured(table(tmp_path / "mixed.csv", made)), "judges")
    assert judge["mean"] == pytest.approx(7)
    assert judge["scale"] == "1–10"


def test_a_header_that_holds_other_signs_than_its_rows_is_cut_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("system,a|b|c,a|b|d\nx,1,2\ny,3,4\n")
    assert list(reading.read(path).columns) == ["system", "a|b|c", "a|b|d"]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["points=score"], "points is no role of a column; roles are item"),
        (["score=grade"], "has no column grade; it has question_id, model, judge, score, note"),
    ],
)
def test_a_word_that_names_nothing_is_told(long: Path, words: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        columns.given_roles(words, reading.read(long))


def test_a_table_without_scores_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "none.csv", [{"id": n, "text": "words"} for n in range(5)])
    with pytest.raises(BadInput, match="no column of scores or winners among id, text"):
        measured(path)


def test_a_right_answer_of_nobody_is_told(long: Path) -> None:
    with pytest.raises(BadInput, match="--right llm-9 is no system; there are llm-0, llm-1, llm-2"):
        measured(long, right="llm-9")


# --- the verb -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_verb_writes_a_page_of_its_own_with_tables_and_figures(
    long: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["judges", str(long), "--out", str(out), "--draws", "200"]) == 0
    page = (out / "judges.html").read_text(encoding="utf-8")
    assert "severus" in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert {"judges.csv", "replaced.csv", "scale.png", "replaced.png"} <= {
        p.name for p in out.iterdir()
    }
    said = capsys.readouterr().out
    assert "240 verdicts, 1 without a score" in said
    assert "note: columns that nobody knows: note" in said


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nowhere.csv"], "nowhere.csv does not exist"),
        (["--scale", "5"], "no file: give one file"),
    ],
)
def test_a_command_that_cannot_be_done_ends_with_one_sentence(
    words: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "--scale":
        words = [*words, "item=q"]
    assert main(["judges", *words]) == 2
    assert match in capsys.readouterr().err


def test_a_scale_without_ends_is_told(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judges", str(long), "--scale", "high"]) == 2
    assert "--scale=high is no scale" in capsys.readouterr().err
