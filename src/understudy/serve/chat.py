"""OpenAI's chat completions: a body becomes a `DecodeRequest`, pieces become a response or chunks.

Fields, limits and shapes are those of the API reference (platform.openai.com/docs/api-reference/
chat). Of vLLM's extras `return_token_ids` and `return_tokens_as_token_ids` are taken.
"""

import json
import secrets
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from understudy.config.schema import suggest
from understudy.config.serve import ServeConfig
from understudy.inference import DecodeRequest, Logprob
from understudy.records import Message
from understudy.serve import Piece

# They do not change the answer.
_IGNORED = {
    *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "prediction"),
    *("reasoning_effort", "verbosity"),  # hints, and no model here has learnt them
}
# They would change it, but not with these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{"tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],)},
    **{"function_call": ("none", "auto"), "response_format": ({"type": "text"},)},
    **{"modalities": (["text"],), "top_k": (0, -1), "min_p": (0,), "repetition_penalty": (1,)},
}
# Below these float32 divides by zero, or keeps no token; 1e-5 is _SAMPLING_EPS of vLLM too.
_COLDEST, _NARROWEST = 1e-5, 1e-6


class Rejected(Exception):
    """A request that gets an error of OpenAI's shape."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.message = f"{message.rstrip('.')}."

    def body(self) -> dict[str, Any]:
        """The response."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = kinds.get(self.status, kind)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


Penalty = Annotated[float, Field(ge=-2, le=2)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = False


class Body(BaseModel):
    """The fields that are honoured; null is the same as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    messages: Annotated[list[_Message], Field(min_length=1, fail_fast=True)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None  # null = as judged
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] = Field(default_factory=list)
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def chat(self) -> list[Message]:
        """The messages as the chat template takes them."""
        return [{"role": _role(m.role), "content": _text(m.content)} for m in self.messages]


_FIELDS = list(Body.model_fields)


def parse(data: bytes, model: str, settings: ServeConfig) -> Body:
    """The body of a request; Rejected names what is wrong with it."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Rejected(400, f"The body is no valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise Rejected(400, "The body is no JSON object.")
    values = {name: value for name, value in values.items() if value is not None}
    for name in [name for name in values if name not in _FIELDS]:
        if name not in _IGNORED and values[name] not in _NEUTRAL.get(name, ()):
            near = suggest(name, _FIELDS) if name not in _NEUTRAL else ""
            _refuse(name, f"{name} is not supported by this server{near}", "unsupported_parameter")
        del values[name]
    try:
        body = Body.model_validate(values)
    except ValidationError as error:
        _refuse(*_reason(error))
    if body.model != model:
        message = f"The model {body.model!r} does not exist; this server has {model!r}."
        raise Rejected(404, message, "model", "model_not_found")
    if body.n > (most := min(settings.max_choices, settings.batch_size)):
        _refuse("n", f"n={body.n} is above {most}, the most of this server")
    if len(_stops(body)) > 4:
        _refuse("stop", f"stop has {len(_stops(body))} strings; 4 are the most")
    if body.top_logprobs is not None and not body.logprobs:
        _refuse("top_logprobs", "top_logprobs needs logprobs=true")
    return body


def _refuse(param: str, message: str, code: str | None = None) -> NoReturn:
    raise Rejected(400, message, param, code)


def _reason(error: ValidationError) -> tuple[str, str]:
    """The first field that is wrong, and a sentence."""
    first = error.errors()[0]
    named = [str(part) for part in first["loc"] if isinstance(part, int) or str(part).islower()]
    place = ".".join(part for part in named if part not in ("str", "constrained-str")) or "body"
    if first["type"] in ("missing", "missing_argument"):
        return place, f"{place} is missing."
    wanted = first["msg"].replace("Input should be", "it must be")
    return place, f"{place} is not valid: {wanted}."


def _role(role: str) -> str:
    return "system" if role == "developer" else role  # as OpenAI treats older models


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type")
            _refuse("messages", f"a content part of type {kind!r} is not supported; send text")
    return "".join(part["text"] for part in content)


def _stops(body: Body) -> tuple[str, ...]:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop
    return tuple(stop for stop in stops if stop)


def asked(
    body: Body, ids: list[int], settings: ServeConfig, context: int, vocabulary: int, usual: float
) -> DecodeRequest:
    """What the engine is to do; Rejected where prompt and answer do not fit into the context.

    `usual` is the temperature of requests that give none.
    """
    room = context - len(ids)
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    wanted = body.max_completion_tokens or body.max_tokens
    if room < (wanted or 1):
        raise Rejected(
            400,
            f"This server takes {context} tokens of prompt and answer together; the prompt has "
            f"{len(ids)} and {name} asks for {wanted or 'at least 1'}.",
            "messages" if room < 1 else name,
            "context_length_exceeded",
        )
    if wanted is not None and settings.max_tokens is not None and wanted > settings.max_tokens:
        _refuse(name, f"{name}={wanted} is above {settings.max_tokens}, the most of this server")
    temperature = usual if body.temperature is None else body.temperature
    return DecodeRequest(
        ids=tuple(ids),
        max_tokens=wanted or min(room, settings.max_tokens or room),
        n=body.n,
        temperature=temperature if temperature >= _COLDEST else 0.0,
        top_p=max(body.top_p, _NARROWEST),
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        stop=_stops(body),
        presence=body.presence_penalty,
        frequency=body.frequency_penalty,
        bias=_bias(body.logit_bias, vocabulary),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        is_streamed=body.stream,
    )


def _bias(bias: dict[str, float], vocabulary: int) -> dict[int, float]:
    for token in bias:
        is_number = token.isascii() and token.isdigit() and len(token) < 20
        if not (is_number and int(token) < vocabulary):
            _refuse("logit_bias", f"logit_bias: {token[:20]!r} is no token below {vocabulary}")
    return {int(token): value for token, value in bias.items()}


@dataclass
class ChatReply:
    """One response in the making: what all its parts share, and the tokens counted so far."""

    body: Body
    asked: DecodeRequest
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
