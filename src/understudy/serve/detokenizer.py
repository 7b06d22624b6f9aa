"""The text of an answer while it grows: no half characters, no part of a stop string."""

from typing import Any

from understudy.inference import generate

_PARTIAL = "\ufffd"  # what an unfinished UTF-8 sequence decodes to


class Detokenizer:
    """Text of one answer; `is_stopped` once a stop string has appeared.

    A stream decodes the last tokens only: from one that had text, since what a token spells may
    depend on whether others precede it. Otherwise `end` decodes all at once.
    """

    def __init__(self, tokenizer: Any, stops: tuple[str, ...], is_streamed: bool) -> None:
        self._tokenizer, self._stops, self._is_streamed = tokenizer, stops, is_streamed
        self._tokens: list[int] = []
        self._from = self._to = 0  # decoded again, and told already, up to these tokens
        self._held = ""  # what may become a stop string
        self.is_stopped = False

    def add(self, token: int) -> str:
        """The text of a stream that is certain now."""
        self._tokens.append(token)
        if not (self._is_streamed or self._stops):
            return ""
        told = self._decode(self._to)
        text = self._decode(len(self._tokens))
        if len(text) <= len(told) or text.endswith(_PARTIAL):
            return ""
        self._from, self._to = self._to, len(self._tokens)
        certain = self._release(text[len(told) :])
        return certain if self._is_streamed else ""

    def end(self) -> str:
        """The rest of a stream, or the whole text."""
        if not self._is_streamed:
            text = generate.decode(self._tokenizer, self._tokens)
            return text[: self._first_stop(text)]
        rest = self._decode(len(self._tokens))[len(self._decode(self._to)) :]
        certain = self._release(rest)
        return certain + self._held

    def _decode(self, end: int) -> str:
        return generate.decode(self._tokenizer, self._tokens[self._from : end])

    def _release(self, text: str) -> str:
        if self.is_stopped:
            return ""
        pending = self._held + text
        place = self._first_stop(pending)
        if place is not None:
            self.is_stopped, self._held = True, ""
            return pending[:place]
        certain = len(pending) - max((_overlap(pending, stop) for stop in self._stops), default=0)
        self._held = pending[certain:]
        return pending[:certain]

    def _first_stop(self, text: str) -> int | None:
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        return min(places, default=None)


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
