"""What drift is told, and what is none."""

from understudy import playground
from understudy.watch.drift import drifts, language


def questions(task: str, seed: int, count: int = 150) -> list[str]:
    return [one.instruction for one in playground.generate(task, seed, 0, count)]


def test_texts_of_one_kind_have_not_changed() -> None:
    known, new = questions("closed_qa", 1), questions("closed_qa", 2)
    assert [str(one) for one in drifts((known, new), (known, new)) if one.is_change] == []


def test_another_kind_of_prompt_is_told_by_length_topic_and_likeness() -> None:
    known = questions("closed_qa", 1)
    new = questions("closed_qa", 2, 75) + questions("coding", 2, 75)
    found = {one.what for one in drifts((known, new), (known, known)) if one.is_change}
    assert found >= {"words of prompts", "prompts that are like no known one"}
    assert not {what for what in found if what.endswith("answers")}


def test_another_language_is_told() -> None:
    known = [f"What is the name of the capital that you know for {n}?" for n in range(40)]
    new = [f"Wie heißt die Hauptstadt, und was ist das für ein Ort {n}?" for n in range(40)]
    changes = {one.what for one in drifts((known, new), ([], [])) if one.is_change}
    assert "languages of prompts" in changes


def test_languages_are_guessed_by_script_and_common_words() -> None:
    assert language("Не могли бы вы помочь?") == "Cyrillic"
    assert language("请帮我翻译这句话") == "Chinese or Japanese"
    assert language("Pouvez-vous traduire les phrases pour moi dans une heure?") == "French"
    assert language("x = 1") == "other"


def test_of_a_few_texts_nothing_is_said() -> None:
    assert drifts((["a"] * 19, ["b"] * 500), ([], [])) == []
