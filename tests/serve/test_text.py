"""Streamed text: whole characters, nothing of a stop string, the same text as at once."""

import random
from functools import cache
from typing import Any

import pytest

from understudy import locations
from understudy.inference.decode import Detokenizer, text_of
from understudy.serve.fields import token_bytes


@cache
def shipped() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locations.model("package:tiny"))


@cache
def byte_level() -> Any:
    """A GPT-2 tokenizer without merges: a token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


TEXTS = (
    "Die Straße ist naß – und 東京 liegt weit weg 👩‍🚀, sagt sie.\n\n  Ende.",
    "plain words, and more plain words; stop here, then go on",
    "def f(x):\n    return x  # ok\n```\n",
)


def streamed(tokenizer: Any, tokens: list[int], stops: tuple[str, ...]) -> tuple[list[str], bool]:
    detokenizer = Detokenizer(tokenizer, stops, is_streamed=True)
    parts = []
    for token in tokens:
        parts.append(detokenizer.add(token))
        if detokenizer.is_stopped:
            return parts, True
    return [*parts, detokenizer.end()], False


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [shipped, byte_level])
def test_a_stream_never_tells_half_a_character_and_adds_up_to_the_text(
    make: Any, text: str
) -> None:
    tokens = make().encode(text, add_special_tokens=False)
    parts, _ = streamed(make(), tokens, ())
    assert "".join(parts) == text_of(make(), tokens)
    assert not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [shipped, byte_level])
def test_no_part_of_a_stop_string_is_told_wherever_it_is_cut_into_tokens(
    make: Any, text: str
) -> None:
    tokens = make().encode(text, add_special_tokens=False)
    whole = text_of(make(), tokens)
    draw = random.Random(0)
    for _ in range(60):
        start = draw.randrange(len(whole))
        stops = (whole[start : start + draw.randrange(1, 9)], "never said")
        before = whole.partition(stops[0])[0]
        parts, is_stopped = streamed(make(), tokens, stops)
        assert ("".join(parts), is_stopped) == (before, True)
        for place in range(len(parts)):  # what was told stays right whatever comes
            assert before.startswith("".join(parts[:place]))


@pytest.mark.parametrize("make", [shipped, byte_level])
def test_an_answer_ends_at_the_token_with_which_its_whole_text_has_a_stop_string(make: Any) -> None:
    draw = random.Random(0)
    letters = make().encode("".join(TEXTS), add_special_tokens=False)
    for _ in range(300):  # any bytes in any order, so that halves of characters stand everywhere
        tokens = draw.choices(letters, k=40)
        whole = text_of(make(), tokens).replace("\ufffd", "")
        stops = ("ab", whole[(place := draw.randrange(len(whole))) : place + draw.randrange(1, 4)])
        texts = (text_of(make(), tokens[:n]) for n in range(1, 41))
        found = [any(stop and stop in text for stop in stops) for text in texts]
        detokenizer = Detokenizer(make(), tuple(filter(None, stops)), is_streamed=False)
        for token, is_found in zip(tokens, found, strict=True):
            detokenizer.add(token)
            assert detokenizer.is_stopped == is_found
            if is_found:
                break


def test_what_only_looks_like_the_begin_of_a_stop_string_is_told_in_the_end() -> None:
    tokens = byte_level().encode("all of it: ab", add_special_tokens=False)
    parts, is_stopped = streamed(byte_level(), tokens, ("abc", "b!"))
    assert ("".join(parts), is_stopped) == ("all of it: ab", False)


def test_the_earlier_of_two_stop_strings_ends_the_text_at_once_too() -> None:
    detokenizer = Detokenizer(byte_level(), ("three", "two"), is_streamed=False)
    told = [detokenizer.add(t) for t in byte_level().encode("one two three")]
    assert (detokenizer.end(), set(told)) == ("one ", {""})


def test_an_answer_cut_off_inside_a_character_ends_with_the_replacement_character() -> None:
    tokens = byte_level().encode("ok é")[:-1]
    parts, _ = streamed(byte_level(), tokens, ())
    assert "".join(parts) == "ok \ufffd"


@pytest.mark.parametrize("make", [shipped, byte_level])
def test_the_bytes_of_all_tokens_spell_the_text(make: Any) -> None:
    text = "naïve 東京 👩‍🚀"
    tokens = make().encode(text, add_special_tokens=False)
    spelled = b"".join(token_bytes(make(), token) for token in tokens)
    assert spelled.decode().replace(" ", "") == text.replace(" ", "")
