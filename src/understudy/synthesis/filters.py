"""What is wrong with a pair by itself: a refusal, an odd length, another language, the seed."""

from collections.abc import Sequence

from understudy.data.clusters import same
from understudy.data.language import Languages
from understudy.prompts.objects import sounds_like_refusal
from understudy.records import Coverage

_STRETCH = 4  # how much shorter or longer than any train row a text may be
_LONG = 30  # words from which on an answer that is the seed's own is no coincidence


class _Part:
    """What instructions, or responses, are like in the train rows."""

    def __init__(self, texts: Sequence[str]) -> None:
        sizes = [len(text) for text in texts]
        self._least, self._most = min(sizes) / _STRETCH, max(sizes) * _STRETCH
        self._languages = Languages(texts)

    def objection(self, text: str) -> str | None:
        if not self._least <= len(text) <= self._most:
            return "length"
        return None if self._languages.fits(text) else "wrong_language"


class Filters:
    """The bounds that the train rows set."""

    def __init__(self, train: Sequence[Coverage]) -> None:
        self._instructions = _Part([row.instruction for row in train])
        self._responses = _Part([row.response for row in train])

    def objection(self, instruction: str, response: str, seed: Coverage) -> str | None:
        """Why a pair cannot be used, or None."""
        if sounds_like_refusal(response) and not sounds_like_refusal(seed.response):
            return "refusal"
        if _is_copy(instruction, response, seed):
            return "copied_seed"
        return self._instructions.objection(instruction) or self._responses.objection(response)


def _is_copy(instruction: str, response: str, seed: Coverage) -> bool:
    is_long = len(response.split()) >= _LONG
    return same(instruction) == same(seed.instruction) or (
        is_long and same(response) == same(seed.response)
    )
