"""What is wrong with a pair by itself: a refusal, an odd length, another language, the seed.

Which language a text is in, its letters and its most frequent words tell well enough to notice
that a teacher has left the language of its examples; no download, no model.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from understudy.data.duplicates import same
from understudy.prompts.objects import sounds_like_refusal
from understudy.records import Coverage

_STRETCH = 4  # how much shorter or longer than any train row a text may be
_LONG = 30  # words from which on an answer that is the seed's own is no coincidence
_FUNCTION_WORDS = {  # the most frequent ones of each, without single letters
    "de": "der die das und ist nicht ein eine mit zu den von auf für sich dem des im es wird",
    "en": "the of and to in is that it for was with as are be this on by from have which",
    "es": "el la los las de que en un una es por con para se del su al lo como más",
    "fr": "le la les des et est une dans que pour pas sur avec du qui un il au ce sont",
    "it": "il la di che un una per non con sono del della gli le in si dei nel da alla",
    "nl": "de het een en van is dat niet op te zijn met voor die in aan er ook als bij",
    "pt": "os as de que do da em um uma para não com se na no dos por mais ao das",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_HITS = 4
_LEAST_SHARE = 0.15  # of the words; running text of these languages has 0.3 to 0.5
_LEAD = 1.5  # over the second best: they share words


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
        is_copy = len(response.split()) >= _LONG and same(response) == same(seed.response)
        if is_copy or same(instruction) == same(seed.instruction):
            return "copied_seed"
        return self._instructions.objection(instruction) or self._responses.objection(response)


def language(text: str) -> str | None:
    """A language code, a script where that is not Latin, or None when it cannot be told."""
    if not text.isascii():
        scripts = Counter(_script(letter) for letter in text if letter.isalpha())
        script = scripts.most_common(1)[0][0] if scripts else "LATIN"
        if script != "LATIN":
            return "JAPANESE" if {"HIRAGANA", "KATAKANA"} & scripts.keys() else script
    words = Counter(_WORD.findall(text.casefold()))
    hits = Counter({name: sum(words[word] for word in known) for name, known in _LANGUAGES.items()})
    (best, most), (_, second) = hits.most_common(2)
    enough = max(_LEAST_HITS, _LEAST_SHARE * words.total(), _LEAD * second)
    return best if most >= enough else None


class Languages:
    """The languages of a set of texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._known = {language(text) for text in texts}

    def fits(self, text: str) -> bool:
        """Whether a text is in one of them; what cannot be told is not held against it."""
        found = language(text)
        if found is None or found in self._known:
            return True
        unsure = None in self._known and not self._known & _LANGUAGES.keys()
        return unsure and found in _LANGUAGES


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "LATIN").split()[0]
    return "HAN" if name == "CJK" else name
