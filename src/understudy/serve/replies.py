"""Pieces of answers → OpenAI's chat completion, or the chunks of a stream."""

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from understudy.pipeline.asked import Asked, Logprob, Piece
from understudy.serve.wire import Body


@dataclass
class Reply:
    """One response in the making: what all its parts share, and the tokens counted so far."""

    body: Body
    asked: Asked
    tokenizer: Any
    completion_tokens: int = 0
    _id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    _created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> dict[str, int]:
        """Tokens; each generated one counts, the stop token included, as in vLLM."""
        prompt, completion = len(self.asked.ids), self.completion_tokens
        total = prompt + completion
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total,
        }

    def whole(self, pieces: Iterable[Piece]) -> dict[str, Any]:
        """The chat completion of finished answers, one piece each."""
        choices = []
        for piece in sorted(pieces, key=lambda piece: piece.index):
            message = {"role": "assistant", "content": piece.text, "refusal": None}
            choices.append(self._choice(piece, "message", message))
        own = {"prompt_token_ids": list(self.asked.ids)} if self.body.return_token_ids else {}
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage(), **own}

    def opening(self) -> list[str]:
        """The chunks before the first token."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [self._chunk(Piece(index), delta) for index in range(self.asked.n)]

    def chunk(self, piece: Piece) -> str:
        """A part of one answer."""
        return self._chunk(piece, {"content": piece.text} if piece.text else {})

    def closing(self) -> str:
        """The usage, where it was asked for, and the end."""
        done = "data: [DONE]\n\n"
        if not self.body.includes_usage:
            return done
        last = {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}
        return event(last) + done

    def _chunk(self, piece: Piece, delta: dict[str, Any]) -> str:
        chunk = self._head("chat.completion.chunk")
        chunk["choices"] = [self._choice(piece, "delta", delta)]
        if self.body.includes_usage:
            chunk["usage"] = None
        return event(chunk)

    def _head(self, kind: str) -> dict[str, Any]:
        head = {"id": self._id, "object": kind, "created": self._created}
        return {**head, "model": self.body.model, "system_fingerprint": None}

    def _choice(self, piece: Piece, name: str, said: dict[str, Any]) -> dict[str, Any]:
        self.completion_tokens += len(piece.tokens)
        logprobs = None
        if self.asked.top_logprobs is not None and piece.tokens:
            content = [self._logprob(found) for found in piece.logprobs]
            logprobs = {"content": content, "refusal": None}
        choice = {"index": piece.index, name: said, "logprobs": logprobs}
        choice["finish_reason"] = piece.finish
        return choice | ({"token_ids": piece.tokens} if self.body.return_token_ids else {})

    def _logprob(self, found: Logprob) -> dict[str, Any]:
        top = [self._token(token, value) for token, value in found.top]
        return {**self._token(found.token, found.logprob), "top_logprobs": top}

    def _token(self, token: int, value: float) -> dict[str, Any]:
        raw = token_bytes(self.tokenizer, token)
        text = raw.decode("utf-8", errors="replace")
        if self.body.return_tokens_as_token_ids:
            text = f"token_id:{token}"
        return {"token": text, "logprob": max(value, -9999.0), "bytes": list(raw)}


def event(values: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(values, ensure_ascii=False, separators=(',', ':'))}\n\n"


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The UTF-8 bytes of a token, of which a byte-level or byte-fallback one may hold a part."""
    piece = tokenizer.convert_ids_to_tokens(token)
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    if piece is None or "\ufffd" not in text:
        return text.encode()
    if len(piece) == 6 and piece.startswith("<0x"):  # byte fallback of sentencepiece
        return bytes([int(piece[3:5], 16)])
    if all(letter in _BYTES for letter in piece):
        return bytes(_BYTES[letter] for letter in piece)
    return text.encode()


def _byte_letters() -> dict[str, int]:
    """Letter → byte of byte-level BPE (GPT-2, openai/gpt-2: src/encoder.py)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    letters = {chr(byte): byte for byte in own}
    return letters | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES = _byte_letters()
