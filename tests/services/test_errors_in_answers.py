"""Whatever shape an error has that stands in the place of an answer, it is found and said."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.services.base import error_in

WORDS = st.text("abc :{}\"'\n\t漢", min_size=1, max_size=40).filter(str.strip)
ERRORS = st.one_of(
    WORDS,
    st.builds(lambda words, code: {"message": words, "code": code}, WORDS, st.integers(400, 599)),
    st.builds(lambda words: {"message": words, "type": "overloaded", "param": None}, WORDS),
    st.builds(lambda words: {"type": words, "message": ""}, WORDS),
    st.builds(lambda words: {"status": words, "details": [{}]}, WORDS),
)
BESIDE = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(),
        "choices": st.just([]),
        "object": st.just("error"),
        "usage": st.none(),
    },
)
ANSWERS = st.builds(
    lambda text, beside: (
        beside | {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    ),
    st.text(),
    st.fixed_dictionaries({}, optional={"error": st.none(), "id": st.text()}),
)


def words_of(error: Any) -> str:
    told = error if isinstance(error, dict) else {"message": error}
    return next(told[name] for name in ("message", "type", "status") if told.get(name))


@settings(max_examples=300, deadline=None)
@given(ERRORS, BESIDE, st.booleans())
def test_an_error_is_found_in_the_body_and_in_the_first_choice(
    error: Any, beside: dict[str, Any], in_choice: bool
) -> None:
    body = beside | ({"choices": [{"error": error}]} if in_choice else {"error": error})
    found = error_in(json.loads(json.dumps(body)))
    assert found is not None
    assert found[0] == " ".join(words_of(error).split())[:300]
    assert found[1] == (error.get("code") if isinstance(error, dict) else None)


@settings(max_examples=200, deadline=None)
@given(ANSWERS)
def test_an_answer_is_no_error_whatever_it_says(body: dict[str, Any]) -> None:
    assert error_in(body) is None
