"""Pairs that cannot be used, each for its reason."""

import pytest

from support import tiny_model
from understudy import playground
from understudy.synthesis.filters import Filters, Languages, language

SEED = tiny_model.row(
    "seed",
    "Which of the two letters did the clerk lose on the way to the office?",
    "He lost the letter that was meant for the mayor, and it was found by the river.",
)
TRAIN = [SEED, *tiny_model.rows(4)]
GOOD = ("Who of the guests has left the umbrella in the hall of the inn?", "It was the old man.")


@pytest.mark.parametrize(
    ("instruction", "response", "reason"),
    [
        (*GOOD, None),
        (GOOD[0], "I'm sorry, but I can't help with that.", "refusal"),
        (SEED.instruction.upper(), "Another answer.", "copied_seed"),
        (GOOD[0], "word " * 200, "length"),
        ("Eh?", GOOD[1], "length"),
        ("Wer von den Gästen hat den Schirm in der Halle und nicht im Zimmer?", "Er.", "wrong"),
        ("Кто из гостей оставил свой зонт в зале гостиницы у реки?", GOOD[1], "wrong"),
        (
            GOOD[0],
            "C'est le vieux qui est dans la rue avec les enfants, pas sur le pont",
            "wrong",
        ),
    ],
)
def test_a_pair_is_refused_for_its_reason(
    instruction: str, response: str, reason: str | None
) -> None:
    found = Filters(TRAIN).objection(instruction, response, SEED)
    assert found == ("wrong_language" if reason == "wrong" else reason)


def test_a_long_answer_that_is_the_seeds_own_is_a_copy_whatever_was_asked() -> None:
    answer = "This is what the clerk said about it. " * 6
    seed = tiny_model.row("s", "What did the clerk say about the letter?", answer)
    filters = Filters([seed])
    assert filters.objection("And what did the other clerk say?", answer, seed) == "copied_seed"


@pytest.mark.parametrize("task", playground.TASKS)
def test_no_pair_of_the_playground_is_refused(task: str) -> None:
    pairs = playground.generate(task, 0, 0, 400)
    rows = [tiny_model.row(str(n), *pair) for n, pair in enumerate(pairs)]
    filters = Filters(rows[:50])
    assert {filters.objection(*pair, rows[0]) for pair in pairs[50:]} == {None}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The cat is on the roof and it was there for most of the day.", "en"),
        ("Die Katze ist auf dem Dach und sie war dort nicht mit den Hunden.", "de"),
        ("Le chat est dans la maison et il ne va pas sur le toit avec les chiens.", "fr"),
        ("El gato es de la casa y no se va por el techo con los perros.", "es"),
        ("Кот сидит на крыше", "CYRILLIC"),
        ("猫は屋根の上にいます", "JAPANESE"),
        ("x = [n for n in rows if n]", None),
        ("42", None),
        ("", None),
    ],
)
def test_a_language_is_told_or_left_open(text: str, code: str | None) -> None:
    assert language(text) == code


def test_code_without_a_language_may_be_answered_in_one() -> None:
    assert Languages(["x = 1"]).fits("The name is bound to the number and is of the type of it.")
