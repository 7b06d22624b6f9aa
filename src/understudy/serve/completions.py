"""OpenAI's older completions: texts or tokens go on, and can be echoed with their probabilities.

So benchmarks that compare the log-probabilities of given answers can ask the server.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from understudy.config.serve import ServeConfig
from understudy.inference import DecodeRequest, Logprob
from understudy.serve import Piece, fields
from understudy.serve.fields import Rejected, event, refuse, token_bytes
from understudy.serve.model import Served

# They would change the answer, but not with these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {"best_of": (1,), "suffix": ("",)}
_USUAL = 16  # tokens, as OpenAI has it


class TextBody(fields.Sampled):
    """The fields that are honoured; null is the same as absent."""

    asks_in: ClassVar[str] = "prompt"

    prompt: str | list[Any]
    max_tokens: Annotated[int, Field(ge=0)] = _USUAL
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    add_special_tokens: bool = True

    def wanted(self) -> tuple[str, int | None]:
        return "max_tokens", self.max_tokens

    @property
    def likeliest(self) -> int | None:
        return self.logprobs


def parse(data: bytes, model: str, settings: ServeConfig) -> TextBody:
    """The body of a request; Rejected names what is wrong with it."""
    body = fields.parse(data, TextBody, _NEUTRAL, model, settings)
    if body.max_tokens == 0 and not body.echo:
        refuse("max_tokens", "max_tokens=0 needs echo=true")
    return body


def prompts(body: TextBody, served: Served) -> list[list[int]]:
    """The tokens of each prompt; Rejected for what is neither text nor tokens."""
    given = body.prompt
    is_one = isinstance(given, str) or (given and all(type(one) is int for one in given))
    found = []
    for one in [given] if is_one else given:
        if isinstance(one, str):
            try:
                ids = served.tokenizer.encode(one, add_special_tokens=body.add_special_tokens)
            except (TypeError, ValueError) as error:  # lone surrogates
                raise Rejected(400, f"The prompt is no valid text: {error}", "prompt") from None
        else:
            ids = one
        size = len(served.tokenizer)
        is_tokens = isinstance(ids, list) and all(type(t) is int and 0 <= t < size for t in ids)
        if not is_tokens or not ids:
            refuse("prompt", f"prompt must be text, or tokens below {size}, and not empty")
        found.append(ids)
    if not found:
        refuse("prompt", "prompt is empty")
    return found


@dataclass
class TextReply:
    """One response in the making; the answers to the p-th prompt are numbered p·n, p·n + 1, …"""

    body: TextBody
    asked: list[DecodeRequest]
    tokenizer: Any
    completion_tokens: int = 0
    _id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    _created: int = field(default_factory=lambda: int(time.time()))
    _lengths: dict[int, int] = field(default_factory=dict)  # characters told of each answer

    def usage(self) -> dict[str, int]:
        """How many tokens the request took."""
        return fields.usage(sum(len(one.ids) for one in self.asked), self.completion_tokens)

    def whole(self, pieces: Iterable[Piece]) -> dict[str, Any]:
        """The completion of finished answers, one piece each."""
        choices = [self._choice(one) for one in sorted(pieces, key=lambda piece: piece.index)]
        return {**self._head(), "choices": choices, "usage": self.usage()}

    def opening(self) -> list[str]:
        """Nothing comes before the first token."""
        return []

    def chunk(self, piece: Piece) -> str:
        """A part of one answer."""
        chunk = {**self._head(), "choices": [self._choice(piece)]}
        return event(chunk | ({"usage": None} if self.body.includes_usage else {}))

    def closing(self) -> str:
        """The usage, where it was asked for, and the end."""
        done = "data: [DONE]\n\n"
        if not self.body.includes_usage:
            return done
        return event({**self._head(), "choices": [], "usage": self.usage()}) + done

    def _head(self) -> dict[str, Any]:
        head = {"id": self._id, "object": "text_completion", "created": self._created}
        return {**head, "model": self.body.model}

    def _choice(self, piece: Piece) -> dict[str, Any]:
        self.completion_tokens += len(piece.tokens)
        ids = self.asked[piece.index // self.body.n].ids
        is_first = self.body.echo and piece.index not in self._lengths
        begin = self._lengths.setdefault(piece.index, 0)
        echoed = self._echoed(piece.index, ids) if is_first else ""
        self._lengths[piece.index] += len(echoed) + len(piece.text)
        logprobs = None
        if self.body.logprobs is not None:
            before = [None, *piece.prompt] if is_first else []
            told = _Told(self.tokenizer, self.body, begin)
            for token, found in zip(ids, before, strict=False):
                told.add(token, found)
            told.offset = begin + len(echoed)
            for found in piece.logprobs:
                told.add(found.token, found)
            logprobs = told.lists
        choice = {"index": piece.index, "text": echoed + piece.text, "logprobs": logprobs}
        choice["finish_reason"] = piece.finish
        return choice | ({"token_ids": piece.tokens} if self.body.return_token_ids else {})

    def _echoed(self, index: int, ids: tuple[int, ...]) -> str:
        """The prompt as it was given; of tokens, what they spell."""
        given = self.body.prompt
        if isinstance(given, str):
            return given
        one = given[index // self.body.n]
        if isinstance(one, str):
            return one
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return text


class _Told:
    """Four lists of equal length, as OpenAI's completions have log-probabilities."""

    def __init__(self, tokenizer: Any, body: TextBody, offset: int) -> None:
        self._tokenizer, self._body, self.offset = tokenizer, body, offset
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        self.lists: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, token: int, found: Logprob | None) -> None:
        """Add a token; the first of a prompt has no probability."""
        text = self._text(token)
        top = None
        if found is not None:
            # The token itself is among them, as vLLM and OpenAI have it.
            top = {self._text(one): max(value, -9999.0) for one, value in reversed(found.top)}
            top.setdefault(text, max(found.logprob, -9999.0))
        values = (text, None if found is None else max(found.logprob, -9999.0), top, self.offset)
        for name, value in zip(self.lists, values, strict=True):
            self.lists[name].append(value)
        self.offset += len(token_bytes(self._tokenizer, token).decode("utf-8", errors="replace"))

    def _text(self, token: int) -> str:
        if self._body.return_tokens_as_token_ids:
            return f"token_id:{token}"
        return token_bytes(self._tokenizer, token).decode("utf-8", errors="replace")
